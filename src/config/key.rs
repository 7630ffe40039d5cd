//! What a key of the configuration is: its path, its default and its range, and the type that says how its text is read.

use super::masked::masked_value;

/// The units of ranges: bytes for sizes, milliseconds for durations.
pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const TIB: u64 = 1 << 40;
pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

/// A value as it was written: one text, or a list of texts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum WrittenValue {
    One(String),
    Many(Vec<String>),
}

/// How a value is written in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A boolean or a number, without quotes.
    Bare,
    Quoted,
    /// A text in quotes that is never shown.
    Secret,
    List,
}

/// The type of a key. The default of the type is what an unset key of a route is.
pub(crate) trait Value: Sized + Default {
    const SHAPE: Shape = Shape::Quoted;

    /// What the value must look like where that does not depend on the key.
    const EXPECTED: &'static str = "";

    /// Reads one text (a list reads `Many` instead); `None` if it is not a value of this type, or out of the range of the key.
    fn parse(text: &str, key: &Key) -> Option<Self>;

    /// What the value must look like, to finish the sentence "write …".
    fn expected(_: &Key) -> String {
        Self::EXPECTED.to_owned()
    }

    /// The same where a list is one text: in a variable or a flag.
    fn expected_in_text(key: &Key) -> String {
        Self::expected(key)
    }

    /// What to do about a text that is no value, beyond what is expected: which one was meant, where that can be told.
    fn advice(_: &str) -> Option<String> {
        None
    }

    fn read(written: &WrittenValue, key: &Key) -> Option<Self> {
        match written {
            WrittenValue::One(text) => Self::parse(text, key),
            WrittenValue::Many(_) => None,
        }
    }
}

/// A flag of `tagalong run` that sets a key; the variable `TAGALONG_…` of the same name sets it as well.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without its dashes.
    pub name: &'static str,
    /// What stands for the value in the help.
    pub value_name: &'static str,
    /// What the help says.
    pub help: &'static str,
    /// Whether it may be given several times.
    pub is_list: bool,
    /// Whether it may stand without a value, which means `true`.
    pub is_switch: bool,
}

/// One key of the configuration. In `path`, `*` stands for a name that the operator chooses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) path: &'static str,
    /// As it would be written in the file, without the quotes; a list is separated by commas.
    pub(crate) default: &'static str,
    pub(crate) shape: Shape,
    /// Whether `[upstreams.NAME]` and `[listeners.NAME]` take the value of `[upstream]` and `[listener]` where they
    /// set none. What names a destination or proves an identity is never inherited: a secret must not reach a host
    /// that it was not meant for.
    pub(crate) is_inherited: bool,
    /// Whether a change takes effect only with the next start of the process; a reload that changes it is refused.
    pub(crate) needs_restart: bool,
    pub(crate) flag: Option<Flag>,
    /// In the unit of the type: bytes of a size, milliseconds of a duration.
    pub(crate) least: u64,
    pub(crate) most: u64,
    accepts: fn(&WrittenValue, &Self) -> bool,
    expected: fn(&Self) -> String,
    expected_in_text: fn(&Self) -> String,
    advice: fn(&str) -> Option<String>,
}

impl Key {
    pub(crate) const fn new<T: Value>(path: &'static str, default: &'static str) -> Self {
        Self {
            path,
            default,
            shape: T::SHAPE,
            is_inherited: true,
            needs_restart: false,
            flag: None,
            least: 0,
            most: u64::MAX,
            accepts: |written, key| T::read(written, key).is_some(),
            expected: T::expected,
            expected_in_text: T::expected_in_text,
            advice: T::advice,
        }
    }

    pub(crate) const fn within(self, least: u64, most: u64) -> Self {
        Self { least, most, ..self }
    }

    pub(crate) const fn restart(self) -> Self {
        Self { needs_restart: true, ..self }
    }

    pub(crate) const fn not_inherited(self) -> Self {
        Self { is_inherited: false, ..self }
    }

    pub(crate) const fn flag(self, name: &'static str, value_name: &'static str, help: &'static str) -> Self {
        let flag = Flag { name, value_name, help, is_list: self.is_list(), is_switch: false };
        Self { flag: Some(flag), ..self }
    }

    pub(crate) const fn switch(self, name: &'static str, help: &'static str) -> Self {
        let flag = Flag { name, value_name: "true|false", help, is_list: false, is_switch: true };
        Self { flag: Some(flag), ..self }
    }

    pub(crate) const fn is_list(&self) -> bool {
        matches!(self.shape, Shape::List)
    }

    /// Whether a number, in the unit of the type, is in the range.
    pub(crate) fn is_in_range(&self, number: u64) -> bool {
        (self.least..=self.most).contains(&number)
    }

    /// Whether this is a value of the key's type and in its range.
    pub(crate) fn accepts(&self, written: &WrittenValue) -> bool {
        (self.accepts)(written, self)
    }

    /// What a value must look like, to finish the sentence "write …".
    pub(crate) fn expected(&self) -> String {
        (self.expected)(self)
    }

    /// What a value must look like where this one was written, and what was meant by it where that can be told.
    pub(crate) fn advice(&self, written: Option<&WrittenValue>, is_in_file: bool) -> String {
        let expected = if is_in_file { self.expected() } else { (self.expected_in_text)(self) };
        let texts = match written {
            Some(WrittenValue::One(text)) => std::slice::from_ref(text),
            Some(WrittenValue::Many(texts)) => texts,
            None => &[],
        };
        let meant = (self.shape != Shape::Secret)
            .then(|| texts.iter().find_map(|text| (self.advice)(text)))
            .flatten();
        meant.map_or(expected.clone(), |meant| format!("{expected}; {meant}"))
    }

    /// The default as a list or as one text.
    pub(crate) fn default_value(&self) -> WrittenValue {
        self.split(self.default)
    }

    /// A text of a variable or a flag: a list is separated by commas.
    pub(crate) fn split(&self, text: &str) -> WrittenValue {
        if !self.is_list() {
            return WrittenValue::One(text.to_owned());
        }
        let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
        WrittenValue::Many(members.map(str::to_owned).collect())
    }

    /// What may be shown of a value, as TOML: nothing of a secret.
    pub(crate) fn shown(&self, written: &WrittenValue) -> String {
        match (self.shape, written) {
            (Shape::Secret, WrittenValue::One(text)) if text.is_empty() => "\"\"".to_owned(),
            (Shape::Secret, _) => "\"***\"".to_owned(),
            (Shape::Bare, WrittenValue::One(text)) => masked_value(text).into_owned(),
            (_, WrittenValue::One(text)) => format!("{:?}", masked_value(text)),
            (_, WrittenValue::Many(texts)) => {
                format!("{:?}", texts.iter().map(|text| masked_value(text)).collect::<Vec<_>>())
            }
        }
    }
}
