//! Settings that platforms give in environment variables of their own.
//!
//! Sources: Google Cloud's "Custom container requirements for inference" (`AIP_*`); Amazon's "Hosting
//! requirements for the inference pipeline" (`SAGEMAKER_BIND_TO_PORT`).

/// What a variable holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// A setting's value.
    Value,
    /// A port, on which every address of the container is to be listened on.
    Port,
}

/// Each variable, its setting and what it holds.
const VARIABLES: [(&str, &str, Holds); 4] = [
    ("SAGEMAKER_BIND_TO_PORT", "server.bind", Holds::Port),
    ("AIP_HTTP_PORT", "server.bind", Holds::Port),
    ("AIP_HEALTH_ROUTE", "vertex.health_route", Holds::Value),
    ("AIP_PREDICT_ROUTE", "vertex.predict_route", Holds::Value),
];

/// The setting that a platform's variable gives, and its value; `None` for any other variable. Empty
/// ones say nothing.
pub(super) fn setting(variable: &str, value: &str) -> Option<(&'static str, String)> {
    let (_, key, holds) = VARIABLES.iter().find(|(name, ..)| *name == variable)?;
    let value = value.trim();
    match holds {
        _ if value.is_empty() => None,
        Holds::Value => Some((key, value.to_owned())),
        Holds::Port => Some((key, format!("0.0.0.0:{value}"))),
    }
}
