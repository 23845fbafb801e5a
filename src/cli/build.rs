//! What was built.

use std::sync::LazyLock;

use crate::metrics::BuildInfo;

static PLATFORM: LazyLock<String> =
    LazyLock::new(|| format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH));

pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let build = build_info();
    format!("{} ({}, {})", build.version, build.platform, build.profile)
});

/// The version, the profile and the platform.
pub(super) fn build_info() -> BuildInfo {
    BuildInfo {
        version: env!("CARGO_PKG_VERSION"),
        profile: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        platform: PLATFORM.as_str(),
    }
}
