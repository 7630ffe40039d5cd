//! The sections of the configuration: `section!` declares each key once, and the struct, the table of keys and the reader
//! follow from it.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroize as _;

use super::error::Source;
use super::key::{Key, Shape, Value, WrittenValue};

/// The value of a key with where it came from.
pub(crate) struct Layered {
    pub(crate) key: &'static Key,
    pub(crate) written: WrittenValue,
    pub(crate) source: Source,
}

impl Drop for Layered {
    fn drop(&mut self) {
        if let (Shape::Secret, WrittenValue::One(text)) = (self.key.shape, &mut self.written) {
            text.zeroize();
        }
    }
}

/// Every value, by its path.
pub(crate) type Values = BTreeMap<String, Layered>;

/// The names that the operator chose below a path, such as `upstreams`.
pub(crate) fn names_below<'a>(values: &'a Values, path: &str) -> BTreeSet<&'a str> {
    let name = |path_of_key: &'a String| path_of_key.strip_prefix(path)?.strip_prefix('.')?.split('.').next();
    values.keys().filter_map(name).collect()
}

/// One section of the values: all that is needed to read the struct of that section.
pub(crate) struct Section<'a> {
    pub(crate) values: &'a Values,
    /// Such as `upstreams.orders.credential`.
    pub(crate) path: String,
}

impl Section<'_> {
    /// The value of a key; the default of its type where a route does not set it. Layers have refused what cannot be read.
    pub(crate) fn get<T: Value>(&self, name: &str) -> T {
        let layered = self.values.get(&format!("{}.{name}", self.path));
        layered.and_then(|it| T::read(&it.written, it.key)).unwrap_or_default()
    }

    pub(crate) fn inside(&self, name: &str) -> Self {
        Self { values: self.values, path: format!("{}.{name}", self.path) }
    }

    pub(crate) fn elsewhere(&self, path: &str) -> Self {
        Self { values: self.values, path: path.to_owned() }
    }

    /// The name that the operator chose, `main` for `[upstream]` and `[listener]`.
    pub(crate) fn name(&self) -> String {
        self.path.split_once('.').map_or("main", |(_, name)| name).to_owned()
    }

    /// Whether the value of a key is the built-in one, be it written out or not.
    pub(crate) fn is_default(&self, name: &str) -> bool {
        let layered = self.values.get(&format!("{}.{name}", self.path));
        layered.is_some_and(|it| it.written == it.key.default_value())
    }
}

/// Declares a section: a struct, its `KEYS` and its `read`. A field is a key: its name (`as` another one in the file), its type
/// (which says how it is read, see `values`), its default, and calls to the methods of [`Key`]. A field under `beside` is not
/// a key: an expression over the section gives its value.
macro_rules! section {
    (
        $(#[$about:meta])*
        pub struct $struct:ident in $path:literal {
            $(
                $(#[$doc:meta])*
                $vis:vis $field:ident $(as $name:literal)?: $type:ty
                    = $default:literal $(, $option:ident($($argument:expr),*))*;
            )*
        }
        $(beside |$section:ident| {
            $($(#[$beside_doc:meta])* $beside_vis:vis $beside:ident: $beside_type:ty = $value:expr;)*
        })?
    ) => {
        $(#[$about])*
        pub struct $struct {
            $($(#[$doc])* $vis $field: $type,)*
            $($($(#[$beside_doc])* $beside_vis $beside: $beside_type,)*)?
        }

        impl $struct {
            pub(super) const KEYS: &'static [$crate::config::key::Key] = &[$(
                $crate::config::key::Key::new::<$type>(
                    concat!($path, ".", $crate::config::section::name_in_file!($field $($name)?)),
                    $default,
                )$(.$option($($argument),*))*,
            )*];

            pub(super) fn read(section: &$crate::config::section::Section<'_>) -> Self {
                $(let $section = section;)?
                Self {
                    $($field: section.get($crate::config::section::name_in_file!($field $($name)?)),)*
                    $($($beside: $value,)*)?
                }
            }
        }
    };
}

macro_rules! name_in_file {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}

pub(crate) use {name_in_file, section};
