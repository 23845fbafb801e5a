//! Which versions of a model are served, as `models.versions` says it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Which versions of one model are served, of those that its directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    /// Every one.
    All,
    /// This many of the newest, at least 1.
    Latest(usize),
    /// These, at least one.
    Only(BTreeSet<u64>),
}

/// The policy of each model: `all, digits=latest:2, iris=1+3`.
///
/// ```
/// use safeserve::versions::{VersionPolicies, VersionPolicy};
///
/// let policies: VersionPolicies = "latest, iris=all".parse()?;
/// assert_eq!(*policies.of("digits"), VersionPolicy::Latest(1));
/// assert_eq!(*policies.of("iris"), VersionPolicy::All);
/// # Ok::<(), safeserve::versions::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct VersionPolicies {
    /// For models that are not named.
    default: VersionPolicy,
    named: BTreeMap<String, VersionPolicy>,
}

impl VersionPolicies {
    /// The policy of the model with this name.
    #[must_use]
    pub fn of(&self, model: &str) -> &VersionPolicy {
        self.named.get(model).unwrap_or(&self.default)
    }
}

impl Default for VersionPolicies {
    fn default() -> Self {
        Self {
            default: VersionPolicy::All,
            named: BTreeMap::new(),
        }
    }
}

/// Names of versions: `digits/stable=1, digits/canary=2`.
///
/// ```
/// use safeserve::versions::VersionLabels;
///
/// let labels: VersionLabels = "digits/stable=1, digits/canary=2".parse()?;
/// assert_eq!(labels.of("digits").unwrap()["canary"], 2);
/// assert!(labels.of("iris").is_none());
/// # Ok::<(), safeserve::versions::LabelError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct VersionLabels(BTreeMap<String, BTreeMap<String, u64>>);

impl VersionLabels {
    /// The labels of the model with this name, if it has any.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<&BTreeMap<String, u64>> {
        self.0.get(model)
    }
}

/// A text that is no label, or two of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelError {
    part: String,
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected MODEL/LABEL=VERSION, each label of a model once, got {:?}",
            self.part
        )
    }
}

impl std::error::Error for LabelError {}

impl FromStr for VersionLabels {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let mut labels = Self::default();
        if text.trim().is_empty() {
            return Ok(labels);
        }
        for part in text.split(',').map(str::trim) {
            let read = || {
                let (name, version) = part.split_once('=')?;
                let (model, label) = name.split_once('/')?;
                let (model, label) = (model.trim(), label.trim());
                let is_name = !model.is_empty() && !label.is_empty() && !label.contains('/');
                is_name.then_some((model, label, canonical(version.trim())?))
            };
            let refused = || LabelError {
                part: part.to_owned(),
            };
            let (model, label, version) = read().ok_or_else(refused)?;
            let model = labels.0.entry(model.to_owned()).or_default();
            if model.insert(label.to_owned(), version).is_some() {
                return Err(refused());
            }
        }
        Ok(labels)
    }
}

impl TryFrom<String> for VersionLabels {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        text.parse()
    }
}

/// A text that is no policy, or two for one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    part: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected \"all\", \"latest\", \"latest:N\" or versions such as \"1+3\", once for all \
             models and once after \"NAME=\", got {:?}",
            self.part
        )
    }
}

impl std::error::Error for PolicyError {}

impl FromStr for VersionPolicies {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let mut default = None;
        let mut named = BTreeMap::new();
        for part in text.split(',').map(str::trim) {
            let refused = || PolicyError {
                part: part.to_owned(),
            };
            let (name, policy) = match part.split_once('=') {
                Some((name, policy)) => (Some(name.trim()), policy.trim()),
                None => (None, part),
            };
            let policy = policy_of(policy).ok_or_else(refused)?;
            let before = match name {
                None => default.replace(policy),
                Some("") => return Err(refused()),
                Some(name) => named.insert(name.to_owned(), policy),
            };
            if before.is_some() {
                return Err(refused());
            }
        }
        let default = default.unwrap_or(VersionPolicy::All);
        Ok(Self { default, named })
    }
}

impl TryFrom<String> for VersionPolicies {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        text.parse()
    }
}

fn policy_of(text: &str) -> Option<VersionPolicy> {
    match text {
        "all" => return Some(VersionPolicy::All),
        "latest" => return Some(VersionPolicy::Latest(1)),
        _ => {}
    }
    if let Some(count) = text.strip_prefix("latest:") {
        let count = canonical(count)?.try_into().ok()?;
        return Some(VersionPolicy::Latest(count));
    }
    let versions: Option<BTreeSet<u64>> = text.split('+').map(canonical).collect();
    versions.map(VersionPolicy::Only)
}

/// A version written as a positive number should be: no sign, no leading zero.
#[must_use]
pub fn canonical(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || text.starts_with('0') {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(text: &str) -> VersionPolicies {
        text.parse().unwrap()
    }

    #[test]
    fn a_named_model_has_its_own_policy() {
        let policies = policies(" latest:2 ,digits=all, iris = 1+30 ");
        assert_eq!(*policies.of("anything"), VersionPolicy::Latest(2));
        assert_eq!(*policies.of("digits"), VersionPolicy::All);
        assert_eq!(*policies.of("iris"), VersionPolicy::Only([1, 30].into()));
    }

    #[test]
    fn without_a_word_for_all_models_they_serve_all() {
        assert_eq!(*policies("iris=latest").of("digits"), VersionPolicy::All);
        assert_eq!(policies("all"), VersionPolicies::default());
    }

    #[test]
    fn what_is_no_policy_is_refused_with_its_part() {
        for (text, part) in [
            ("", ""),
            ("newest", "newest"),
            ("all,", ""),
            ("latest:0", "latest:0"),
            ("latest:-1", "latest:-1"),
            ("iris=", "iris="),
            ("=all", "=all"),
            ("iris=1+", "iris=1+"),
            ("iris=01", "iris=01"),
            ("all, latest", "latest"),
            ("iris=all, iris=1", "iris=1"),
        ] {
            let error = text.parse::<VersionPolicies>().unwrap_err();
            assert_eq!(error.part, part, "{text:?}");
        }
    }

    #[test]
    fn a_label_stands_for_a_version_of_a_model() {
        let labels: VersionLabels = " digits/stable = 1,digits/a.b=20, iris/stable=3 "
            .parse()
            .unwrap();
        let digits = BTreeMap::from([("a.b".to_owned(), 20), ("stable".to_owned(), 1)]);
        assert_eq!(labels.of("digits"), Some(&digits));
        assert_eq!(labels.of("other"), None);
        assert_eq!(" ".parse(), Ok(VersionLabels::default()));
        for (text, part) in [
            ("stable=1", "stable=1"),
            ("digits/stable", "digits/stable"),
            ("digits/=1", "digits/=1"),
            ("/stable=1", "/stable=1"),
            ("digits/a/b=1", "digits/a/b=1"),
            ("digits/stable=01", "digits/stable=01"),
            ("digits/stable=1,", ""),
            ("digits/stable=1, digits/stable=2", "digits/stable=2"),
        ] {
            assert_eq!(
                text.parse::<VersionLabels>().unwrap_err().part,
                part,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_version_has_one_spelling() {
        assert_eq!(canonical("18446744073709551615"), Some(u64::MAX));
        for odd in [
            "",
            "0",
            "01",
            "+1",
            "-1",
            "1e0",
            " 1",
            "18446744073709551616",
        ] {
            assert_eq!(canonical(odd), None, "{odd:?}");
        }
    }
}
