//! What is to be done with a model's versions: a pure function of what was observed in its directory and
//! of the outcome of earlier loads, without a file or a clock.

use std::collections::BTreeMap;
use std::time::Duration;

use super::files::Files;
use crate::versions::VersionPolicy;

/// The soonest that incomplete files are looked at again.
const SOONEST: Duration = Duration::from_millis(100);
/// The latest.
const LATEST: Duration = Duration::from_secs(5);

/// What lies in a version's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    /// Files that may be a version's.
    Files(Files),
    /// No files of a version, and why that is said; they may be on their way.
    Empty(String),
    /// What can be no version, and why.
    Faulty(String),
    /// Unknown: it cannot be looked at now, and why.
    Unreadable(String),
    /// Nothing any more.
    Gone,
}

/// What became of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It serves, or served.
    Loaded,
    /// The files are a beginning: of a copy, perhaps.
    Incomplete(String),
    /// They cannot be served.
    Refused(String),
    /// They were not read: their weights had no room with the others'.
    NoRoom(String),
    /// Reading them took too long.
    Late(String),
}

/// One version, when it is decided what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VersionStatus {
    pub(super) observation: Observation,
    /// How long the observation has been the same.
    pub(super) unchanged_for: Duration,
    /// The files of the last load, and its outcome.
    pub(super) tried: Option<(Files, Outcome)>,
    /// Whether it answers requests, with these files or with earlier ones.
    pub(super) is_ready: bool,
    /// Whether it was refused as it looks now: what was given up is not waited for again.
    pub(super) is_given_up: bool,
    /// Whether what kept it from being loaded, that had nothing to do with its files, is gone: the
    /// others' weights, a file system that does not answer.
    pub(super) may_be_tried_again: bool,
}

/// What holds for all versions of a model.
#[derive(Clone, Debug)]
pub(super) struct Rule<'a> {
    pub(super) policy: &'a VersionPolicy,
    /// The most versions that serve, whatever the policy.
    pub(super) max_versions: usize,
    /// How long files have to be left alone before they are loaded.
    pub(super) settle: Duration,
    /// How long files that are not complete are waited for.
    pub(super) incomplete_timeout: Duration,
    /// Whether someone asked that the model be unloaded.
    pub(super) is_held: bool,
}

/// What is to be done with a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Load it, instead of what answers now if something does.
    Load,
    /// Look again after a while. What answers now goes on.
    Wait {
        reason: String,
        look_after: Duration,
    },
    /// Nothing can be served that lies there. What answers now goes on.
    Refuse(String),
    /// Let it finish its requests and take no more.
    Unload(String),
    /// Nothing is there and nothing answers.
    Forget,
    /// It is not among those to serve; the reason if that is not what was asked for.
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
    // Newer versions that answer, and those that do or may after this plan.
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
        // One that is gone answers for a while, and counts no more.
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
        // Others may take their place: `rm` and `cp`, or two renames.
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
            // It had to leave, and is wanted again.
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

/// Files that are not complete are waited for, at growing intervals and not for ever.
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
