//! What is to be done with a model's versions: a pure function of what was observed in its directory and
//! of the outcome of earlier loads, without a file or a clock.

use std::collections::BTreeMap;
use std::time::Duration;

use super::files::Files;
use crate::versions::VersionPolicy;

/// The shortest wait before incomplete files are checked again.
const SOONEST: Duration = Duration::from_millis(100);
/// The longest.
const LATEST: Duration = Duration::from_secs(5);

/// What is in a version's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    /// Files that may be a version's.
    Files(Files),
    /// No files of a version, and the reason; they may still arrive.
    Empty(String),
    /// Something that cannot be a version, and why.
    Faulty(String),
    /// Unknown: it cannot be read now, and why.
    Unreadable(String),
    /// Nothing any more.
    Gone,
}

/// The outcome of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It serves, or served.
    Loaded,
    /// The files are incomplete: perhaps they are being copied.
    Incomplete(String),
    /// They cannot be served.
    Refused(String),
    /// They were not read: their weights do not fit with the others'.
    NoRoom(String),
    /// Reading them took too long.
    Late(String),
}

/// One version's state, from which the plan is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VersionStatus {
    pub(super) observation: Observation,
    /// How long the observation has been the same.
    pub(super) unchanged_for: Duration,
    /// The files of the last load, and its outcome.
    pub(super) tried: Option<(Files, Outcome)>,
    /// Whether it answers requests, with these files or with earlier ones.
    pub(super) is_ready: bool,
    /// Whether it was refused in its present state: the server does not wait for it again.
    pub(super) is_given_up: bool,
    /// Whether an obstacle outside its files is gone: the others' weights, a file system that does not
    /// answer.
    pub(super) may_be_tried_again: bool,
}

/// What holds for all versions of a model.
#[derive(Clone, Debug)]
pub(super) struct Rule<'a> {
    pub(super) policy: &'a VersionPolicy,
    /// The most versions that serve, whatever the policy.
    pub(super) max_versions: usize,
    /// How long files must be unchanged before they are loaded.
    pub(super) settle: Duration,
    /// How long the server waits for incomplete files.
    pub(super) incomplete_timeout: Duration,
    /// Whether someone asked that the model be unloaded.
    pub(super) is_held: bool,
}

/// What is to be done with a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Load it; it replaces the version that answers now, if any.
    Load,
    /// Check again after a while. What answers now continues.
    Wait {
        reason: String,
        look_after: Duration,
    },
    /// Its files cannot be served. What answers now continues.
    Refuse(String),
    /// Let it finish its requests and accept no more.
    Unload(String),
    /// It has no files, and nothing answers.
    Forget,
    /// It is not among the versions to serve; the reason, if the settings did not ask for that.
    Leave(Option<String>),
    /// It is as it should be.
    Keep,
}

/// What is to be done with each version of a model: loads first, so that a replacement serves before
/// the version that it replaces is unloaded; then the newest first.
///
/// A policy's number counts versions that serve or can: if the newest is incomplete or invalid, an
/// older one takes its place until the newest serves. Plan again after each load, until the plan is
/// empty.
pub(super) fn plan(rule: &Rule<'_>, versions: &BTreeMap<u64, VersionStatus>) -> Vec<(u64, Action)> {
    let most = match rule.policy {
        VersionPolicy::Latest(count) => rule.max_versions.min(*count),
        VersionPolicy::All | VersionPolicy::Only(_) => rule.max_versions,
    };
    // Newer versions that answer now, and those that do or may after this plan.
    let (mut ready, mut hoped) = (0, 0);
    let mut actions = Vec::with_capacity(versions.len());
    for (&version, status) in versions.iter().rev() {
        let is_listed = match rule.policy {
            VersionPolicy::Only(versions) => versions.contains(&version),
            VersionPolicy::All | VersionPolicy::Latest(_) => true,
        };
        let is_there = status.observation != Observation::Gone;
        let action = if is_there && rule.is_held {
            give_up_place(status, "it was unloaded on request", true)
        } else if is_there && !is_listed {
            give_up_place(status, "models.versions does not list it", false)
        } else if is_there && ready >= most {
            match rule.policy {
                VersionPolicy::Latest(count) if *count <= rule.max_versions => {
                    give_up_place(status, "models.versions wants newer ones only", false)
                }
                _ => {
                    let reason = format!(
                        "models.max_versions: {most} newer versions serve; raise it, or take away \
                         versions"
                    );
                    give_up_place(status, &reason, true)
                }
            }
        } else if is_there && hoped >= most && !status.is_ready {
            // Its turn comes if one of the newer ones fails.
            Action::Leave(None)
        } else {
            decide(rule, status)
        };
        // A deleted version answers for a while longer, but no longer counts.
        let stays = status.is_ready && is_there && !matches!(action, Action::Unload(_));
        ready += usize::from(stays);
        hoped += usize::from(stays || action == Action::Load);
        actions.push((version, action));
    }
    actions.sort_by_key(|(_, action)| *action != Action::Load);
    actions
}

fn give_up_place(status: &VersionStatus, reason: &str, is_told: bool) -> Action {
    match status.is_ready {
        true => Action::Unload(reason.to_owned()),
        false => Action::Leave(is_told.then(|| reason.to_owned())),
    }
}

/// What is to be done with a version that is to serve.
fn decide(rule: &Rule<'_>, status: &VersionStatus) -> Action {
    let VersionStatus {
        observation,
        unchanged_for,
        tried,
        is_ready,
        is_given_up,
        may_be_tried_again,
    } = status;
    let incomplete_timeout = match is_given_up {
        true => Duration::ZERO,
        false => rule.incomplete_timeout,
    };
    let files = match observation {
        Observation::Gone if !is_ready => return Action::Forget,
        // New files may follow: `rm` and `cp`, or two renames.
        Observation::Gone if *unchanged_for < rule.settle => {
            return Action::Wait {
                reason: "its files are gone; it is unloaded unless others come".to_owned(),
                look_after: rule.settle - *unchanged_for,
            };
        }
        Observation::Gone => return Action::Unload("its files are gone".to_owned()),
        Observation::Unreadable(reason) | Observation::Faulty(reason) => {
            return Action::Refuse(reason.clone());
        }
        Observation::Empty(reason) => {
            return incomplete(incomplete_timeout, *unchanged_for, reason);
        }
        Observation::Files(files) => files,
    };
    match tried {
        Some((tried, outcome)) if tried == files => match outcome {
            Outcome::Loaded if *is_ready => Action::Keep,
            // It was being unloaded, and is wanted again.
            Outcome::Loaded => Action::Load,
            Outcome::Incomplete(reason) => incomplete(incomplete_timeout, *unchanged_for, reason),
            Outcome::NoRoom(_) | Outcome::Late(_) if *may_be_tried_again => Action::Load,
            Outcome::Refused(reason) | Outcome::NoRoom(reason) | Outcome::Late(reason) => {
                Action::Refuse(reason.clone())
            }
        },
        _ if *unchanged_for < rule.settle => Action::Wait {
            reason: "its files are changing; they are loaded once they are left alone".to_owned(),
            look_after: rule.settle - *unchanged_for,
        },
        _ => Action::Load,
    }
}

/// Incomplete files are checked at growing intervals, for a limited time.
fn incomplete(incomplete_timeout: Duration, unchanged_for: Duration, reason: &str) -> Action {
    if unchanged_for >= incomplete_timeout {
        return Action::Refuse(reason.to_owned());
    }
    Action::Wait {
        reason: format!("waiting for its files to be complete: {reason}"),
        look_after: unchanged_for
            .clamp(SOONEST, LATEST)
            .min(incomplete_timeout - unchanged_for),
    }
}

/// Whether weights of `wanted` bytes fit with those of `used`; the reason if not.
pub(super) fn room(wanted: u64, used: u64, max_weight_bytes: u64) -> Result<(), String> {
    if wanted <= max_weight_bytes.saturating_sub(used) {
        return Ok(());
    }
    Err(format!(
        "its weights take {wanted} bytes and {used} are taken of the {max_weight_bytes} that \
         models.max_weight_bytes allows; raise it, or take away models"
    ))
}

#[cfg(test)]
mod tests;
