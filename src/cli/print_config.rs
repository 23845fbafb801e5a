//! `safeserve print-config`: the settings and where each came from.

use super::{Exit, print};
use crate::config::Settings;

pub(super) fn run(settings: &Settings) -> Exit {
    print(&settings.to_toml());
    Exit::Done
}
