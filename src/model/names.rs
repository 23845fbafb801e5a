//! Names of inputs, outputs and features, and labels of classes.

/// The most bytes of a name or label: they are in every answer, and in labels of metrics.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// Whether a text can be a name.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// The message about a text that cannot be a name.
pub(super) fn not_a_name(name: &str) -> String {
    let shown: String = name.chars().take(40).collect();
    format!(
        "expected names of 1 to {MAX_NAME_BYTES} bytes without control characters, got {shown:?}"
    )
}
