//! Strict reading of a model's JSON files: every key is known, appears once and has the right type.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What is wrong in a JSON file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// The place, for example `layers[2].units`; empty for the whole file.
    pub path: String,
    /// What was expected and what is there.
    pub problem: String,
}

impl JsonError {
    pub(super) fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for JsonError {}

/// Parses a file that holds one JSON object in which no key appears twice.
pub(super) fn parse(text: &[u8]) -> Result<Fields, JsonError> {
    if text.starts_with(b"\xef\xbb\xbf") {
        return Err(JsonError::new(
            "",
            "begins with a byte order mark; save it as UTF-8 without one",
        ));
    }
    let Unique(value) = serde_json::from_slice(text)
        .map_err(|error| JsonError::new("", format!("not valid JSON: {error}")))?;
    Field {
        path: String::new(),
        value,
    }
    .object()
}

/// A JSON value in which no object has a key twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} appears twice")));
            }
            let Unique(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// A JSON object whose keys are taken one by one; what is left at the end is unknown.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    path: String,
    map: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    /// An object without keys.
    pub(super) fn empty() -> Self {
        Self {
            path: String::new(),
            map: Map::new(),
            known: Vec::new(),
        }
    }

    /// An error about the object as a whole.
    pub(super) fn error(&self, problem: impl Into<String>) -> JsonError {
        JsonError::new(self.path.clone(), problem)
    }

    /// Takes a key that may be left out; `null` counts as left out.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Field> {
        self.known.push(key);
        let value = self.map.remove(key).filter(|value| !value.is_null())?;
        Some(Field {
            path: join(&self.path, key),
            value,
        })
    }

    /// Takes a key that must be there.
    pub(super) fn require(&mut self, key: &'static str) -> Result<Field, JsonError> {
        self.take(key)
            .ok_or_else(|| self.error(format!("the key {key:?} is missing")))
    }

    /// Whether the key is there, without taking it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// Takes keys that may hold anything.
    pub(super) fn ignore(&mut self, keys: &[&'static str]) {
        for key in keys {
            self.take(key);
        }
    }

    /// Whether a key appears anywhere below, at any depth.
    pub(super) fn mentions(&self, key: &str) -> bool {
        let mut waiting: Vec<&Value> = self.map.values().collect();
        if self.map.contains_key(key) {
            return true;
        }
        while let Some(value) = waiting.pop() {
            match value {
                Value::Object(map) if map.contains_key(key) => return true,
                Value::Object(map) => waiting.extend(map.values()),
                Value::Array(items) => waiting.extend(items),
                _ => {}
            }
        }
        false
    }

    /// Takes all that is left, as (key, value).
    pub(super) fn into_rest(self) -> impl Iterator<Item = (String, Field)> {
        let path = self.path;
        self.map.into_iter().map(move |(key, value)| {
            let path = join(&path, &key);
            (key, Field { path, value })
        })
    }

    /// Refuses keys that were not taken, unless they hold `null`.
    pub(super) fn finish(mut self) -> Result<(), JsonError> {
        self.map.retain(|_, value| !value.is_null());
        let Some(unknown) = self.map.keys().next() else {
            return Ok(());
        };
        self.known.sort_unstable();
        self.known.dedup();
        Err(JsonError::new(
            join(&self.path, unknown),
            format!("unknown key; expected one of: {}", self.known.join(", ")),
        ))
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// One value and its place.
#[derive(Clone, Debug)]
pub(super) struct Field {
    path: String,
    value: Value,
}

impl Field {
    /// An error about this value.
    pub(super) fn error(&self, problem: impl Into<String>) -> JsonError {
        JsonError::new(self.path.clone(), problem)
    }

    /// An error that says what was expected here and shows what is here.
    pub(super) fn expected(&self, what: &str) -> JsonError {
        let mut found = self.value.to_string();
        if found.len() > 60 {
            let end = (0..=60).rev().find(|end| found.is_char_boundary(*end));
            found.truncate(end.unwrap_or(0));
            found.push('…');
        }
        self.error(format!("expected {what}, got {found}"))
    }

    pub(super) fn is_string(&self) -> bool {
        self.value.is_string()
    }

    pub(super) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    pub(super) fn is_object(&self) -> bool {
        self.value.is_object()
    }

    pub(super) fn is_null(&self) -> bool {
        self.value.is_null()
    }

    pub(super) fn object(self) -> Result<Fields, JsonError> {
        match self.value {
            Value::Object(map) => Ok(Fields {
                path: self.path,
                map,
                known: Vec::new(),
            }),
            _ => Err(self.expected("an object")),
        }
    }

    pub(super) fn list(self) -> Result<Vec<Field>, JsonError> {
        match self.value {
            Value::Array(items) => Ok(items
                .into_iter()
                .enumerate()
                .map(|(index, value)| Field {
                    path: format!("{}[{index}]", self.path),
                    value,
                })
                .collect()),
            _ => Err(self.expected("a list")),
        }
    }

    pub(super) fn string(self) -> Result<String, JsonError> {
        match self.value {
            Value::String(text) => Ok(text),
            _ => Err(self.expected("a string")),
        }
    }

    pub(super) fn strings(self) -> Result<Vec<String>, JsonError> {
        self.list()?.into_iter().map(Field::string).collect()
    }

    pub(super) fn bool(self) -> Result<bool, JsonError> {
        self.value
            .as_bool()
            .ok_or_else(|| self.expected("true or false"))
    }

    /// An extent or a count: an integer from 1 to 2^32.
    pub(super) fn extent(self) -> Result<usize, JsonError> {
        self.value
            .as_u64()
            .filter(|extent| (1..=1 << 32).contains(extent))
            .and_then(|extent| usize::try_from(extent).ok())
            .ok_or_else(|| self.expected("a positive whole number"))
    }

    pub(super) fn integer(self) -> Result<i64, JsonError> {
        self.value
            .as_i64()
            .ok_or_else(|| self.expected("a whole number"))
    }

    pub(super) fn number(self) -> Result<f64, JsonError> {
        self.value.as_f64().ok_or_else(|| self.expected("a number"))
    }

    /// A number that is finite in single precision.
    pub(super) fn single(self) -> Result<f32, JsonError> {
        self.value
            .as_f64()
            .map(|value| value as f32)
            .filter(|value| value.is_finite())
            .ok_or_else(|| self.expected("a number in the range of 32-bit floats"))
    }

    /// A number, or nested lists of numbers, row-major.
    pub(super) fn numbers(self) -> Result<Vec<f32>, JsonError> {
        let mut waiting = vec![self];
        let mut values = Vec::new();
        while let Some(field) = waiting.pop() {
            if field.is_list() {
                waiting.extend(field.list()?.into_iter().rev());
            } else {
                values.push(field.single()?);
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, read: impl Fn(&mut Fields) -> Result<(), JsonError>) -> String {
        let outcome = parse(text.as_bytes()).and_then(|mut fields| {
            read(&mut fields)?;
            fields.finish()
        });
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        let error = message(r#"{"b": 1, "c": 2}"#, |fields| {
            fields.take("b");
            fields.take("a");
            Ok(())
        });
        assert_eq!(error, "c: unknown key; expected one of: a, b");
    }

    #[test]
    fn a_key_that_appears_twice_is_refused_at_any_depth() {
        let error = message(r#"{"a": [{"b": 1, "b": 1}]}"#, |_| Ok(()));
        assert!(error.contains(r#"the key "b" appears twice"#), "{error}");
    }

    #[test]
    fn an_error_names_the_path_and_what_is_there() {
        let error = message(r#"{"layers": [{"units": -1}]}"#, |fields| {
            for layer in fields.require("layers")?.list()? {
                layer.object()?.require("units")?.extent()?;
            }
            Ok(())
        });
        assert_eq!(
            error,
            "layers[0].units: expected a positive whole number, got -1"
        );
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = message(r#"{"a": null}"#, |fields| fields.require("a").map(|_| ()));
        assert_eq!(error, "the key \"a\" is missing");
    }

    #[test]
    fn text_that_is_not_one_object_is_refused() {
        for text in ["", "[]", "{", "{} {}", "1", "\u{feff}{}"] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
