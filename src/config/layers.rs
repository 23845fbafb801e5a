//! Merges the layers of settings and records where each value came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::error::ConfigError;
use super::origin::Origin;
use super::{Config, DEFAULT_TOML, foreign};
use crate::messages::edits;
use crate::names::{self, is_model_name};
use crate::versions::{VersionLabels, VersionPolicies};

/// What environment variables that are settings start with.
const VARIABLE_PREFIX: &str = "SAFESERVE__";

/// What overrides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The settings file.
    pub file: Option<PathBuf>,
    /// The process's environment; variables that neither start with `SAFESERVE__` nor are a
    /// platform's are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// The flags that are settings: the flag as the user knows it, the key, the value as text.
    pub flags: Vec<(&'static str, String, String)>,
    /// The arguments of `--set`, `SECTION.KEY=VALUE`.
    pub assignments: Vec<String>,
}

/// Settings and where each came from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The settings, checked.
    pub config: Config,
    /// Section to key to value, in the order of `config/default.toml`.
    pub(super) sections: Vec<(String, Vec<Setting>)>,
}

impl Config {
    /// The compiled-in defaults.
    #[must_use]
    pub fn defaults() -> Self {
        Settings::load(Overrides::default())
            .expect("config/default.toml is valid")
            .config
    }
}

/// One setting's value.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

impl Settings {
    /// Reads and checks all layers.
    ///
    /// # Errors
    /// The first [`ConfigError`] found: an unreadable or malformed file, an unknown key, a value
    /// of the wrong type or out of range.
    pub fn load(overrides: Overrides) -> Result<Self, ConfigError> {
        let mut layers = Layers::defaults();
        // The operator's settings override the platform's.
        for (name, value) in &overrides.environment {
            if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
                && let Some((key, value)) = foreign::setting(name, value)
            {
                layers.text(Origin::Variable(name.to_owned()), key, &value)?;
            }
        }
        if let Some(path) = overrides.file {
            layers.file(path)?;
        }
        for (name, value) in overrides.environment {
            layers.variable(name, value)?;
        }
        for (flag, key, value) in overrides.flags {
            layers.text(Origin::Flag(flag.to_owned()), &key, &value)?;
        }
        for argument in overrides.assignments {
            let Some((key, value)) = argument.split_once('=') else {
                return Err(ConfigError::NotAnAssignment { argument });
            };
            layers.text(
                Origin::Flag(format!("--set {argument}")),
                key.trim(),
                value.trim(),
            )?;
        }
        layers.finish()
    }

    /// Where a setting's value came from; `None` if there is no such setting.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        let (section, key) = key.split_once('.')?;
        let (_, settings) = self.sections.iter().find(|(name, _)| name == section)?;
        settings
            .iter()
            .find(|setting| setting.key == key)
            .map(|setting| &setting.origin)
    }
}

/// The settings while layers are merged.
struct Layers {
    sections: Vec<(String, Vec<Setting>)>,
}

impl Layers {
    fn defaults() -> Self {
        let valid = "config/default.toml is valid";
        let document = DeTable::parse(DEFAULT_TOML).expect(valid);
        let values: Table = toml::from_str(DEFAULT_TOML).expect(valid);
        // A table loses the order of the file; the spans keep it.
        let mut places: BTreeMap<usize, (String, BTreeMap<usize, String>)> = BTreeMap::new();
        for (section, content) in document.get_ref() {
            let keys = content.get_ref().as_table().expect(valid);
            let keys = keys
                .keys()
                .map(|key| (key.span().start, key.get_ref().to_string()))
                .collect();
            places.insert(section.span().start, (section.get_ref().to_string(), keys));
        }
        let sections = places
            .into_values()
            .map(|(section, keys)| {
                let settings = keys
                    .into_values()
                    .map(|key| Setting {
                        value: values[&section][&key].clone(),
                        key,
                        origin: Origin::Default,
                    })
                    .collect();
                (section, settings)
            })
            .collect();
        Self { sections }
    }

    fn file(&mut self, path: PathBuf) -> Result<(), ConfigError> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(ConfigError::Unreadable { path, source }),
        };
        let at = |offset: usize| Origin::File {
            path: path.clone(),
            line: 1 + text[..offset.min(text.len())].matches('\n').count(),
        };
        let document = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
            origin: at(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        for (section, content) in document.get_ref() {
            let origin = at(section.span().start);
            let name = section.get_ref();
            let Some(keys) = content.get_ref().as_table() else {
                // A key outside of a section.
                return Err(self.unknown(origin, name));
            };
            if keys.is_empty() && !self.sections.iter().any(|(known, _)| known == name) {
                return Err(self.unknown(origin, name));
            }
            for (key, value) in keys {
                let origin = at(key.span().start);
                self.typed(origin, &format!("{name}.{}", key.get_ref()), value)?;
            }
        }
        Ok(())
    }

    fn variable(&mut self, name: OsString, value: OsString) -> Result<(), ConfigError> {
        let lossy = name.to_string_lossy();
        if !lossy.starts_with(VARIABLE_PREFIX) {
            return Ok(());
        }
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
            return Err(ConfigError::NotUnicode {
                variable: lossy.into_owned(),
            });
        };
        let key = name[VARIABLE_PREFIX.len()..]
            .replacen("__", ".", 1)
            .to_lowercase();
        self.text(Origin::Variable(name.to_owned()), &key, value)
    }

    /// Sets a value that is TOML already.
    fn typed(
        &mut self,
        origin: Origin,
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let setting = self.setting(&origin, key)?;
        let given = match value.get_ref() {
            DeValue::String(text) => Some(Value::String(text.to_string())),
            DeValue::Boolean(yes) => Some(Value::Boolean(*yes)),
            DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
                .ok()
                .map(Value::Integer),
            _ => None,
        };
        match given {
            Some(given) if given.same_type(&setting.value) => {
                setting.value = given;
                setting.origin = origin;
                Ok(())
            }
            given => Err(ConfigError::BadValue {
                key: key.to_owned(),
                expected: kind(&setting.value).to_owned(),
                actual: given.map_or_else(
                    || match value.get_ref() {
                        DeValue::Integer(digits) => digits.as_str().to_owned(),
                        other => format!("a TOML {}", other.type_str()),
                    },
                    |given| format!("{} {given}", kind(&given)),
                ),
                hint: hint(&setting.value),
                origin,
            }),
        }
    }

    /// Sets a value that came as text.
    fn text(&mut self, origin: Origin, key: &str, text: &str) -> Result<(), ConfigError> {
        let setting = self.setting(&origin, key)?;
        let value = match &setting.value {
            Value::Integer(_) => text.parse().map(Value::Integer).ok(),
            Value::Boolean(_) => text.parse().map(Value::Boolean).ok(),
            _ => Some(Value::String(text.to_owned())),
        };
        match value {
            Some(value) => {
                setting.value = value;
                setting.origin = origin;
                Ok(())
            }
            None => Err(ConfigError::BadValue {
                key: key.to_owned(),
                expected: kind(&setting.value).to_owned(),
                actual: format!("{text:?}"),
                hint: hint(&setting.value),
                origin,
            }),
        }
    }

    fn setting(&mut self, origin: &Origin, key: &str) -> Result<&mut Setting, ConfigError> {
        let place = key.split_once('.').and_then(|(section, key)| {
            let section = self.sections.iter().position(|(name, _)| name == section)?;
            let settings = &self.sections[section].1;
            Some((section, settings.iter().position(|s| s.key == key)?))
        });
        match place {
            Some((section, setting)) => Ok(&mut self.sections[section].1[setting]),
            None => Err(self.unknown(origin.clone(), key)),
        }
    }

    fn unknown(&self, origin: Origin, key: &str) -> ConfigError {
        let spelling = |section: &str, key: &str| match origin {
            Origin::Variable(_) => format!("{VARIABLE_PREFIX}{section}__{key}").to_uppercase(),
            _ => format!("{section}.{key}"),
        };
        let all = || {
            self.sections
                .iter()
                .flat_map(|(name, settings)| settings.iter().map(move |s| (name, &s.key)))
        };
        let distance = |known: &(&String, &String)| edits(&format!("{}.{}", known.0, known.1), key);
        // With a third of the letters wrong it is another word, not a slip.
        let nearest = all()
            .min_by_key(distance)
            .filter(|known| 3 * distance(known) <= key.len())
            // A key without its section, or in the wrong one.
            .or_else(|| {
                let bare = key.rsplit('.').next()?;
                all().find(|known| known.1 == bare)
            })
            .map(|(section, key)| spelling(section, key));
        let section = key.split('.').next().unwrap_or_default();
        let known = match self.sections.iter().find(|(name, _)| name == section) {
            Some((name, settings)) => settings.iter().map(|s| spelling(name, &s.key)).collect(),
            None => self
                .sections
                .iter()
                .map(|(name, _)| spelling(name, "*"))
                .collect(),
        };
        ConfigError::UnknownKey {
            key: key.to_owned(),
            nearest,
            known,
            origin,
        }
    }

    fn finish(self) -> Result<Settings, ConfigError> {
        let mut config = Table::new();
        for (name, settings) in &self.sections {
            let section = settings
                .iter()
                .map(|setting| (setting.key.clone(), setting.value.clone()))
                .collect();
            config.insert(name.clone(), Value::Table(section));
        }
        // Value by value first, so that what serde would refuse is reported with its key.
        for (section, values) in &self.sections {
            for Setting { key, value, origin } in values {
                let key = format!("{section}.{key}");
                if let Some((expected, hint)) = refused_by_type(&key, value) {
                    return Err(ConfigError::BadValue {
                        origin: origin.clone(),
                        key,
                        expected: expected.to_owned(),
                        actual: value.to_string(),
                        hint,
                    });
                }
            }
        }
        let config: Config = config
            .try_into()
            .expect("the types of config/default.toml are the types of Config");
        let settings = Settings {
            config,
            sections: self.sections,
        };
        match settings.config.refusal() {
            None => Ok(settings),
            Some(refusal) => Err(ConfigError::BadValue {
                origin: settings
                    .origin(refusal.key)
                    .expect("only settings are refused")
                    .clone(),
                actual: settings.text(refusal.key),
                key: refusal.key.to_owned(),
                expected: refusal.expected,
                hint: refusal.hint,
            }),
        }
    }
}

impl Settings {
    /// The value of a known key as TOML writes it.
    fn text(&self, key: &str) -> String {
        self.sections
            .iter()
            .flat_map(|(section, settings)| settings.iter().map(move |s| (section, s)))
            .find(|(section, setting)| format!("{section}.{}", setting.key) == key)
            .map_or_else(String::new, |(_, setting)| setting.value.to_string())
    }
}

/// What a value of the right TOML type must also be, if it is not.
fn refused_by_type(key: &str, value: &Value) -> Option<(&'static str, &'static str)> {
    let one_of = |allowed: &[&str]| value.as_str().is_some_and(|text| allowed.contains(&text));
    match (key, value) {
        ("server.bind", Value::String(text)) if text.parse::<std::net::SocketAddr>().is_err() => {
            Some((
                "an IP address and a port",
                "write for example \"0.0.0.0:8080\" or \"[::1]:8080\"",
            ))
        }
        ("operations.bind" | "admin.bind" | "grpc.bind", Value::String(text))
            if !text.is_empty() && text.parse::<std::net::SocketAddr>().is_err() =>
        {
            Some((
                "an IP address and a port, or \"\" for none",
                "write for example \"127.0.0.1:8081\"",
            ))
        }
        ("models.dir", Value::String(text)) if text.is_empty() => {
            Some(("a directory", "write for example \"models\""))
        }
        ("models.name", Value::String(text)) if !text.is_empty() && !is_model_name(text) => {
            Some((names::RULE, "or write \"\" for the directory's name"))
        }
        ("models.versions", Value::String(text)) if text.parse::<VersionPolicies>().is_err() => {
            Some((
                "\"all\", \"latest\", \"latest:N\" or versions, once for all models and once a model",
                "write for example \"all\", \"latest:2\" or \"latest, digits=all, iris=1+3\"",
            ))
        }
        ("models.labels", Value::String(text)) if text.parse::<VersionLabels>().is_err() => Some((
            "MODEL/LABEL=VERSION, each label of a model once",
            "write for example \"digits/stable=1, digits/canary=2\"",
        )),
        ("vertex.health_route" | "vertex.predict_route", Value::String(text))
            if !text.is_empty() && (!text.starts_with('/') || text.contains(['?', '#'])) =>
        {
            Some(("a path, or \"\" for none", "write for example \"/predict\""))
        }
        ("log.level", _) if !one_of(&["error", "warn", "info", "debug", "trace"]) => Some((
            "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
            "use one of them",
        )),
        ("log.format", _) if !one_of(&["auto", "text", "json"]) => {
            Some(("\"auto\", \"text\" or \"json\"", "use one of them"))
        }
        (_, Value::Integer(number)) if *number < 0 => {
            Some(("a whole number, 0 or more", "take the sign away"))
        }
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "a whole number",
        Value::Boolean(_) => "true or false",
        _ => "text",
    }
}

fn hint(default: &Value) -> &'static str {
    match default {
        Value::Integer(_) => "write digits only, without quotes, unit or fraction",
        Value::Boolean(_) => "write true or false, without quotes",
        _ => "put it in quotes",
    }
}
