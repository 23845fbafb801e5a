//! `safeserve print-config`: the settings and where each came from.

use super::console::print;
use super::exit::Exit;
use crate::config::Settings;

pub(super) fn run(settings: &Settings) -> Exit {
    print(&settings.to_toml());
    Exit::Done
}
