//! The `api-version` of a request, and what each version adds.

/// The versions that are known to exist, oldest first, so that "at least" is a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiVersion {
    /// `1.0`: key-values, keys, labels, locks, revisions.
    V1_0,
    /// `2022-11-01-preview`: snapshots in preview.
    V2022_11_01Preview,
    /// `2023-10-01`: snapshots, operations, and the entity tag of a list page.
    V2023_10_01,
    /// `2023-11-01`: tag filters on lists, revisions and in snapshots.
    V2023_11_01,
    /// `2024-09-01`: tag filters on one key-value.
    V2024_09_01,
    /// `2025-07-01-preview`.
    V2025_07_01Preview,
    /// `2026-04-01`: descriptions. The default of current clients.
    V2026_04_01,
    /// `2026-05-01-preview`.
    V2026_05_01Preview,
    /// `2026-08-01-preview`.
    V2026_08_01Preview,
}

/// Why the `api-version` of a request is refused; the text is the `title` of the 400 on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiVersionError {
    /// The parameter is absent.
    #[error("API version is not specified")]
    NotSpecified,
    /// A well-formed version that is not known.
    #[error("Unsupported API version")]
    Unsupported,
    /// Not the form of a version.
    #[error("Invalid API version")]
    Invalid,
    /// Given several times with different values.
    #[error("Ambiguous API version")]
    Ambiguous,
}

impl ApiVersion {
    /// Every known version, oldest first.
    pub const ALL: [Self; 9] = [
        Self::V1_0,
        Self::V2022_11_01Preview,
        Self::V2023_10_01,
        Self::V2023_11_01,
        Self::V2024_09_01,
        Self::V2025_07_01Preview,
        Self::V2026_04_01,
        Self::V2026_05_01Preview,
        Self::V2026_08_01Preview,
    ];

    /// The version that the values of all `api-version` parameters of one request name.
    ///
    /// # Errors
    /// [`ApiVersionError`], which the service answers with 400.
    pub fn from_values<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, ApiVersionError> {
        let mut values = values.into_iter();
        let value = values.next().filter(|value| !value.is_empty()).ok_or(ApiVersionError::NotSpecified)?;
        if values.any(|other| !other.eq_ignore_ascii_case(value)) {
            return Err(ApiVersionError::Ambiguous);
        }
        Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(value)).ok_or_else(|| {
            if is_version(value) { ApiVersionError::Unsupported } else { ApiVersionError::Invalid }
        })
    }

    /// The version as it stands in a query.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V2022_11_01Preview => "2022-11-01-preview",
            Self::V2023_10_01 => "2023-10-01",
            Self::V2023_11_01 => "2023-11-01",
            Self::V2024_09_01 => "2024-09-01",
            Self::V2025_07_01Preview => "2025-07-01-preview",
            Self::V2026_04_01 => "2026-04-01",
            Self::V2026_05_01Preview => "2026-05-01-preview",
            Self::V2026_08_01Preview => "2026-08-01-preview",
        }
    }

    /// Snapshots and operations exist.
    #[must_use]
    pub fn has_snapshots(self) -> bool {
        self >= Self::V2022_11_01Preview
    }

    /// A list page shows its entity tag, in the `ETag` field and as `etag` in its JSON.
    #[must_use]
    pub fn has_page_etag(self) -> bool {
        self >= Self::V2023_10_01
    }

    /// Lists, revisions and snapshot filters understand `tags`.
    #[must_use]
    pub fn has_tag_filters(self) -> bool {
        self >= Self::V2023_11_01
    }

    /// `GET /kv/{key}` understands `tags`.
    #[must_use]
    pub fn has_tags_on_key_value(self) -> bool {
        self >= Self::V2024_09_01
    }

    /// Key-values and snapshots have a `description`.
    #[must_use]
    pub fn has_description(self) -> bool {
        self >= Self::V2026_04_01
    }
}

/// `major.minor` or a date, with an optional `-status`.
fn is_version(value: &str) -> bool {
    let digits = |text: &str, length: std::ops::RangeInclusive<usize>| {
        length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let status = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
    };
    if let Some((major, minor)) = value.split_once('.')
        && digits(major, 1..=4)
    {
        let (minor, rest) = minor.split_once('-').unwrap_or((minor, "0"));
        return digits(minor, 1..=4) && status(rest);
    }
    let mut parts = value.splitn(4, '-');
    let date =
        [4..=4, 2..=2, 2..=2].into_iter().all(|length| parts.next().is_some_and(|part| digits(part, length)));
    date && parts.next().is_none_or(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_version_is_read_back_in_any_case() {
        for version in ApiVersion::ALL {
            assert_eq!(ApiVersion::from_values([version.as_str()]), Ok(version));
            assert_eq!(ApiVersion::from_values([version.as_str().to_uppercase().as_str()]), Ok(version));
        }
        assert!(ApiVersion::ALL.is_sorted());
    }

    #[test]
    fn each_mistake_has_its_title() {
        for (values, error) in [
            (&[][..], ApiVersionError::NotSpecified),
            (&[""], ApiVersionError::NotSpecified),
            (&["2.0"], ApiVersionError::Unsupported),
            (&["2023-10-02"], ApiVersionError::Unsupported),
            (&["2023-10-01-preview"], ApiVersionError::Unsupported),
            (&["1.0-beta"], ApiVersionError::Unsupported),
            (&["latest"], ApiVersionError::Invalid),
            (&["2023-1-1"], ApiVersionError::Invalid),
            (&["1."], ApiVersionError::Invalid),
            (&["2023-10-01-"], ApiVersionError::Invalid),
            (&["1.0", "2023-10-01"], ApiVersionError::Ambiguous),
        ] {
            assert_eq!(ApiVersion::from_values(values.iter().copied()), Err(error), "{values:?}");
        }
        assert_eq!(ApiVersion::from_values(["1.0", "1.0"]), Ok(ApiVersion::V1_0));
    }

    #[test]
    fn features_appear_with_their_version() {
        use ApiVersion as V;
        assert!(!V::V1_0.has_page_etag() && V::V2023_10_01.has_page_etag());
        assert!(!V::V2023_10_01.has_tag_filters() && V::V2023_11_01.has_tag_filters());
        assert!(!V::V2023_11_01.has_tags_on_key_value() && V::V2024_09_01.has_tags_on_key_value());
        assert!(!V::V2024_09_01.has_description() && V::V2026_04_01.has_description());
        assert!(!V::V1_0.has_snapshots() && V::V2023_10_01.has_snapshots());
    }
}
