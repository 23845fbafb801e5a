//! Files of the operator: keys and settings.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use safeserve::config::{Config, ConfigError, Overrides, Settings};
use safeserve::keys::Keys;
use safeserve::metrics::Counter;
use tempfile::NamedTempFile;

use super::choose;

thread_local! {
    static FILE: NamedTempFile = NamedTempFile::new().unwrap();
}

/// A file of API keys.
pub fn keys(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return; // Refused where the file is read.
    };
    let lines = || text.lines().map(|line| line.split_whitespace());
    match Keys::parse(text, |_| Counter::default()) {
        Ok(keys) => {
            for mut words in lines() {
                let (Some(name), Some(key)) = (words.next(), words.next()) else {
                    continue;
                };
                let is_plain = !name.starts_with('#') && !key.starts_with("sha256:");
                if is_plain {
                    let found = keys.find(key.as_bytes());
                    assert_eq!(found.map(|key| &*key.name), Some(name));
                }
            }
            assert!(keys.find(b"not in the file").is_none() || text.contains("sha256:"));
        }
        Err(error) => {
            // As long as a key has to be.
            let secret = lines()
                .flatten()
                .find(|word| word.len() >= 16 && error.contains(*word));
            assert_eq!(secret, None, "quoted: {error}");
            assert!(!error.chars().any(char::is_control), "{error:?}");
        }
    }
}

/// Settings, as the first byte says: a file, the environment or arguments of `--set`, a line each.
pub fn settings(data: &[u8]) {
    let Some((layer, bytes)) = choose(data, &["file", "environment", "assignments"]) else {
        return;
    };
    let lines = bytes.split(|byte| *byte == b'\n');
    let overrides = match *layer {
        "file" => return check(file(bytes)),
        "environment" => Overrides {
            environment: lines
                .map(|line| {
                    let end = line.iter().position(|byte| *byte == b'=');
                    let (name, value) = line.split_at(end.unwrap_or(line.len()));
                    let value = value.get(1..).unwrap_or_default();
                    (
                        OsString::from_vec([b"SAFESERVE__", name].concat()),
                        OsString::from_vec(value.to_vec()),
                    )
                })
                .collect(),
            ..Overrides::default()
        },
        _ => Overrides {
            assignments: lines
                .map(|line| String::from_utf8_lossy(line).into_owned())
                .collect(),
            ..Overrides::default()
        },
    };
    check(Settings::load(overrides));
}

/// The settings of a file.
fn file(bytes: &[u8]) -> Result<Settings, ConfigError> {
    FILE.with(|file| {
        fs::write(file, bytes).unwrap();
        Settings::load(Overrides {
            file: Some(file.path().to_owned()),
            ..Overrides::default()
        })
    })
}

/// What is good is the same when it is printed and read again.
fn check(settings: Result<Settings, ConfigError>) {
    match settings {
        Ok(settings) => {
            let printed = settings.to_toml();
            let again: Result<Config, _> = file(printed.as_bytes()).map(|again| again.config);
            match again {
                Ok(again) => assert_eq!(again, settings.config, "{printed}"),
                Err(error) => panic!("{error}:\n{printed}"),
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
