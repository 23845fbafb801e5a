//! Numbers as people read them.

/// A number with five significant digits or so.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-4..1e7).contains(&size) => format!("{value:.4e}"),
        size => {
            let places = (4.0 - size.log10().floor()).max(0.0) as usize;
            let text = format!("{value:.places$}");
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-122.694, "-122.69"),
            (0.00123456, "0.0012346"),
            (0.00001, "1.0000e-5"),
            (123_456.0, "123456"),
            (1e9, "1.0000e9"),
            (100.0, "100"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
