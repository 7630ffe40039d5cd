//! Deserializers for values whose text form says more than serde's own would take. The kinds in `keys` have checked the
//! texts before, so an error here is a gap between the two.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Method, Uri};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, Error, IntoDeserializer};
use serde::{Deserialize, Deserializer};

use super::duration;
use super::upstream::UpstreamProxy;

pub(crate) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

pub(crate) fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uri>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(D::Error::custom)
}

pub(crate) fn url_or_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uri, D::Error> {
    Ok(url(deserializer)?.unwrap_or_default())
}

pub(crate) fn proxy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UpstreamProxy, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "environment" => Ok(UpstreamProxy::Environment),
        "none" => Ok(UpstreamProxy::None),
        other => other.parse().map(UpstreamProxy::Url).map_err(D::Error::custom),
    }
}

pub(crate) fn field<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HeaderName>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(D::Error::custom)
}

pub(crate) fn fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HeaderName>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

pub(crate) fn methods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Method>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

pub(crate) fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    u32::from_str_radix(&String::deserialize(deserializer)?, 8).map_err(D::Error::custom)
}

pub(crate) fn optional_word<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    word_unless(deserializer, "")
}

pub(crate) fn word_or_auto<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    word_unless(deserializer, "auto")
}

fn word_unless<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
    unset: &str,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == unset {
        return Ok(None);
    }
    let word: StrDeserializer<'_, D::Error> = text.as_str().into_deserializer();
    T::deserialize(word).map(Some)
}

pub(crate) fn optional_freshness<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Duration>>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    lifetime(&text).map(Some)
}

pub(crate) fn duration_or_auto<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    lifetime(&String::deserialize(deserializer)?)
}

fn lifetime<E: Error>(text: &str) -> Result<Option<Duration>, E> {
    if text == "auto" {
        return Ok(None);
    }
    duration::parse_duration(text).map(Some).map_err(E::custom)
}
