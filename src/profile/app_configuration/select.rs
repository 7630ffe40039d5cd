//! `$select`: which fields of an item an answer shows.

/// A field that `$select` can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Field {
    /// `etag`
    Etag,
    /// `key`
    Key,
    /// `label`
    Label,
    /// `content_type`
    ContentType,
    /// `value`
    Value,
    /// `tags`
    Tags,
    /// `description`
    Description,
    /// `locked`
    Locked,
    /// `last_modified`
    LastModified,
    /// `name`
    Name,
    /// `status`
    Status,
    /// `filters`
    Filters,
    /// `composition_type`
    CompositionType,
    /// `created`
    Created,
    /// `expires`
    Expires,
    /// `retention_period`
    RetentionPeriod,
    /// `size`
    Size,
    /// `items_count`
    ItemsCount,
}

impl Field {
    const ALL: [(Self, &'static str); 18] = [
        (Self::Etag, "etag"),
        (Self::Key, "key"),
        (Self::Label, "label"),
        (Self::ContentType, "content_type"),
        (Self::Value, "value"),
        (Self::Tags, "tags"),
        (Self::Description, "description"),
        (Self::Locked, "locked"),
        (Self::LastModified, "last_modified"),
        (Self::Name, "name"),
        (Self::Status, "status"),
        (Self::Filters, "filters"),
        (Self::CompositionType, "composition_type"),
        (Self::Created, "created"),
        (Self::Expires, "expires"),
        (Self::RetentionPeriod, "retention_period"),
        (Self::Size, "size"),
        (Self::ItemsCount, "items_count"),
    ];
}

/// A set of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Selection(u32);

impl Default for Selection {
    fn default() -> Self {
        Self::ALL
    }
}

impl Selection {
    /// Every field.
    pub const ALL: Self = Self(u32::MAX);

    /// Reads a `$select`. Names are case-insensitive, and unknown ones are ignored. An absent or empty value and `*`
    /// mean every field. Only unknown names mean no field: items are then empty objects.
    #[must_use]
    pub fn parse(value: Option<&str>) -> Self {
        let Some(value) = value.filter(|value| !value.trim_ascii().is_empty()) else { return Self::ALL };
        value.split(',').map(str::trim_ascii).fold(Self(0), |Self(fields), name| match name {
            "*" => Self::ALL,
            _ => Self(
                Field::ALL
                    .iter()
                    .find(|(_, known)| known.eq_ignore_ascii_case(name))
                    .map_or(fields, |(field, _)| fields | bit(*field)),
            ),
        })
    }

    /// Whether the set contains a field.
    #[must_use]
    pub const fn contains(self, field: Field) -> bool {
        self.0 & bit(field) != 0
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

const fn bit(field: Field) -> u32 {
    1 << field as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_what_is_named() {
        let selected = Selection::parse(Some("Key, value,nonsense"));
        assert!(selected.contains(Field::Key) && selected.contains(Field::Value));
        assert!(!selected.contains(Field::Label) && !selected.contains(Field::Etag));
    }

    #[test]
    fn absent_empty_and_star_are_everything_and_unknown_names_nothing() {
        for everything in [None, Some(""), Some(" "), Some("*"), Some("key,*")] {
            assert_eq!(Selection::parse(everything), Selection::ALL, "{everything:?}");
        }
        let nothing = Selection::parse(Some("nonsense"));
        assert!(Field::ALL.iter().all(|(field, _)| !nothing.contains(*field)));
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
