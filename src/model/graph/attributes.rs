//! Attributes of nodes.

use std::collections::BTreeMap;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attribute {
    /// A whole number.
    Int(i64),
    /// Whole numbers.
    Ints(Vec<i64>),
    /// A number.
    Float(f32),
    /// Text.
    Text(String),
}

impl Attribute {
    fn kind(&self) -> &'static str {
        match self {
            Self::Int(_) => "a whole number",
            Self::Ints(_) => "a list of whole numbers",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
        }
    }
}

/// A node's attributes by name, each taken once; what is left at the end is unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attributes {
    values: BTreeMap<String, Attribute>,
    known: Vec<&'static str>,
}

impl Attributes {
    /// Adds an attribute, or replaces it.
    #[cfg(feature = "import")]
    pub(crate) fn insert(&mut self, name: impl Into<String>, value: Attribute) {
        self.values.insert(name.into(), value);
    }

    /// Takes an attribute away.
    #[cfg(feature = "import")]
    pub(crate) fn remove(&mut self, name: &str) -> Option<Attribute> {
        self.values.remove(name)
    }

    /// All of them, sorted by name.
    #[cfg(feature = "import")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.values.iter().map(|(name, value)| (&**name, value))
    }

    fn take<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(Attribute) -> Result<T, Attribute>,
    ) -> Result<Option<T>, String> {
        self.known.push(name);
        let Some(value) = self.values.remove(name) else {
            return Ok(None);
        };
        let read = read(value).map(Some);
        read.map_err(|value| {
            format!(
                "attribute {name:?}: expected {expected}, got {}",
                value.kind()
            )
        })
    }

    pub(super) fn int(&mut self, name: &'static str) -> Result<Option<i64>, String> {
        self.take(name, "a whole number", |value| match value {
            Attribute::Int(value) => Ok(value),
            other => Err(other),
        })
    }

    pub(super) fn ints(&mut self, name: &'static str) -> Result<Option<Vec<i64>>, String> {
        self.take(name, "a list of whole numbers", |value| match value {
            Attribute::Ints(values) => Ok(values),
            other => Err(other),
        })
    }

    pub(super) fn float(&mut self, name: &'static str) -> Result<Option<f32>, String> {
        self.take(name, "a number", |value| match value {
            Attribute::Float(value) => Ok(value),
            Attribute::Int(value) => Ok(value as f32),
            other => Err(other),
        })
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, String> {
        self.take(name, "text", |value| match value {
            Attribute::Text(value) => Ok(value),
            other => Err(other),
        })
    }

    /// A switch that has only one supported value.
    pub(super) fn only(&mut self, name: &'static str, value: i64) -> Result<(), String> {
        match self.int(name)? {
            Some(given) if given != value => Err(format!(
                "attribute {name:?}: only {value} is supported, got {given}"
            )),
            _ => Ok(()),
        }
    }

    /// Refuses attributes that were not taken.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        let Some(unknown) = self.values.keys().next() else {
            return Ok(());
        };
        Err(match self.known.is_empty() {
            true => format!("attribute {unknown:?} is unknown; expected none"),
            false => format!(
                "attribute {unknown:?} is unknown; expected one of: {}",
                self.known.join(", ")
            ),
        })
    }
}

impl FromIterator<(String, Attribute)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (String, Attribute)>>(attributes: I) -> Self {
        Self {
            values: attributes.into_iter().collect(),
            known: Vec::new(),
        }
    }
}
