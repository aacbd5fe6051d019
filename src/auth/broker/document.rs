//! A JSON document from inside the container, read so that it means one thing and costs little.
//!
//! Two parsers that disagree are a way around a rule: what is sent on is written anew from what was read here, and a name
//! that an object has twice is refused, as readers differ in which of the two they take. The order of names is kept, because a
//! schema's order is what a model answers in. How much there may be of it is bounded, since a value of one byte costs some
//! tens.

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserializer, Serialize, Serializer};
use serde_json::Number;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

/// The most values that a document may hold. A thread that fills the largest context window has some ten thousand.
const MAX_VALUES: usize = 200_000;

#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    /// In the order of the text; no name twice.
    Object(Vec<(String, Json)>),
}

/// Why a text is no document. Never quotes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error("the request's body is no JSON that passes: {0}")]
    Unreadable(String),
}

impl Json {
    /// Nesting is bounded by serde_json (128).
    pub fn parse(text: &[u8]) -> Result<Self, DocumentError> {
        let unreadable = |error: serde_json::Error| DocumentError::Unreadable(error.to_string());
        let left = Cell::new(MAX_VALUES);
        let mut reader = serde_json::Deserializer::from_slice(text);
        let document = Reading { left: &left }.deserialize(&mut reader).map_err(unreadable)?;
        reader.end().map_err(unreadable)?;
        Ok(document)
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A field of an object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields
                .iter()
                .find_map(|(field, value)| (field == name).then_some(value)),
            _ => None,
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => value.serialize(serializer),
            Self::String(value) => serializer.serialize_str(value),
            Self::Array(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| sequence.serialize_element(item))?;
                sequence.end()
            }
            Self::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                fields
                    .iter()
                    .try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
        }
    }
}

/// Reads one value, and counts it.
#[derive(Clone, Copy)]
struct Reading<'c> {
    left: &'c Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        let left = self.left.get().checked_sub(1);
        let left = left.ok_or_else(|| D::Error::custom(format_args!("it has more than {MAX_VALUES} values")))?;
        self.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number out of range"))?;
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields: Vec<(String, Json)> = Vec::new();
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom("an object has a name twice"));
            }
            fields.push((name, map.next_value_seed(self)?));
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refused(text: &str) -> String {
        Json::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_document_comes_out_as_it_went_in_and_in_its_order() {
        let text = r#"{"z":[1,-2,0.5,true,null,"é\n"],"a":{"y":{},"b":[]}}"#;
        let document = Json::parse(text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&document).unwrap(), text);
    }

    #[test]
    fn a_name_twice_is_refused_however_it_is_spelled() {
        for text in [
            r#"{"store":false,"store":true}"#,
            r#"{"a":{"store":false,"\u0073tore":true}}"#,
        ] {
            assert!(refused(text).contains("a name twice"), "{text}");
        }
    }

    #[test]
    fn what_is_no_one_document_is_refused_without_being_quoted() {
        for text in [
            "",
            "{",
            "{}{}",
            "{'a':1}",
            "[1e999]",
            "\u{feff}{}",
            "s3cret",
            "{\"a\":s3cret}",
        ] {
            assert!(!refused(text).contains("s3cret"), "{text}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
        assert!(Json::parse(&[0x28, 0xb5, 0x2f, 0xfd]).is_err(), "zstd");
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        assert!(refused(&"[".repeat(100_000)).contains("recursion limit"));
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert!(refused(&many).contains("more than 200000 values"));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_so_that_it_reads_the_same(text in "[\\[\\]{}\",:0-9a-c\\\\ .-]{0,40}") {
            if let Ok(document) = Json::parse(text.as_bytes()) {
                let written = serde_json::to_vec(&document).unwrap();
                prop_assert_eq!(Json::parse(&written).unwrap(), document);
            }
        }
    }
}
