//! `$select`: which fields of an item an answer shows.

bitflags::bitflags! {
    /// A set of the fields that `$select` can name.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Selection: u32 {
        /// `etag`
        const ETAG = 1;
        /// `key`
        const KEY = 1 << 1;
        /// `label`
        const LABEL = 1 << 2;
        /// `content_type`
        const CONTENT_TYPE = 1 << 3;
        /// `value`
        const VALUE = 1 << 4;
        /// `tags`
        const TAGS = 1 << 5;
        /// `description`
        const DESCRIPTION = 1 << 6;
        /// `locked`
        const LOCKED = 1 << 7;
        /// `last_modified`
        const LAST_MODIFIED = 1 << 8;
        /// `name`
        const NAME = 1 << 9;
        /// `status`
        const STATUS = 1 << 10;
        /// `filters`
        const FILTERS = 1 << 11;
        /// `composition_type`
        const COMPOSITION_TYPE = 1 << 12;
        /// `created`
        const CREATED = 1 << 13;
        /// `expires`
        const EXPIRES = 1 << 14;
        /// `retention_period`
        const RETENTION_PERIOD = 1 << 15;
        /// `size`
        const SIZE = 1 << 16;
        /// `items_count`
        const ITEMS_COUNT = 1 << 17;
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self::ALL
    }
}

impl Selection {
    /// Every field.
    pub const ALL: Self = Self::all();

    /// Reads a `$select`. Names are case-insensitive, and unknown ones are ignored. An absent or empty value and `*`
    /// mean every field. Only unknown names mean no field: items are then empty objects.
    #[must_use]
    pub fn parse(value: Option<&str>) -> Self {
        let Some(value) = value.filter(|value| !value.trim_ascii().is_empty()) else { return Self::ALL };
        let named = |name: &str| match name {
            "*" => Self::ALL,
            _ => Self::from_name(&name.to_ascii_uppercase()).unwrap_or(Self::empty()),
        };
        value.split(',').map(str::trim_ascii).map(named).collect()
    }

    /// The one spelling of a `$select` in a cache key: lower case, sorted, without repeats. Unknown names stay, because
    /// a later API may know them. Not for an absent or empty value, which selects everything.
    #[must_use]
    pub fn canonical(value: &str) -> String {
        let mut names: Vec<String> =
            value.split(',').map(|name| name.trim_ascii().to_ascii_lowercase()).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| !name.is_empty());
        // A list of empty names selects nothing, but an empty value would select everything.
        if names.is_empty() { ",".to_owned() } else { names.join(",") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_what_is_named() {
        let selected = Selection::parse(Some("Key, value,nonsense"));
        assert!(selected.contains(Selection::KEY) && selected.contains(Selection::VALUE));
        assert!(!selected.contains(Selection::LABEL) && !selected.contains(Selection::ETAG));
    }

    #[test]
    fn absent_empty_and_star_are_everything_and_unknown_names_nothing() {
        for everything in [None, Some(""), Some(" "), Some("*"), Some("key,*")] {
            assert_eq!(Selection::parse(everything), Selection::ALL, "{everything:?}");
        }
        let nothing = Selection::parse(Some("nonsense"));
        assert!(nothing.is_empty());
    }

    #[test]
    fn one_spelling() {
        for value in ["key,value", "Value,Key", " value , key,key", "value,,key,"] {
            assert_eq!(Selection::canonical(value), "key,value", "{value}");
        }
        for value in [",", " , ,"] {
            let canonical = Selection::canonical(value);
            assert_eq!(Selection::parse(Some(&canonical)), Selection::parse(Some(value)), "{value}");
        }
    }
}
