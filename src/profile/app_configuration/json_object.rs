//! JSON that must be an object. A derived `Deserialize` would also accept `["a", "b"]` for a struct with two fields.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A `T` that was written as an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonObject<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = JsonObject<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(JsonObject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Pair {
        #[serde(default)]
        one: u8,
    }

    #[test]
    fn only_an_object_is_an_object() {
        let parse = |text| serde_json::from_str::<JsonObject<Pair>>(text);
        assert_eq!(parse("{\"one\":1,\"more\":[]}").unwrap().0, Pair { one: 1 });
        assert_eq!(parse("{}").unwrap().0, Pair { one: 0 });
        for text in ["[]", "[1]", "null", "1", "\"\"", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
