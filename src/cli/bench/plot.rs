//! Bars of block characters.

/// The widest bar, in characters.
const WIDTH: usize = 40;

/// An eighth of a character to a whole one.
const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// A line a bar: its label, the bar, its text.
pub(super) fn bars(bars: &[(String, f64, String)]) -> String {
    let most = bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
    let width = |part: fn(&(String, f64, String)) -> &String| {
        bars.iter()
            .map(|bar| part(bar).chars().count())
            .max()
            .unwrap_or(0)
    };
    let (labels, texts) = (width(|bar| &bar.0), width(|bar| &bar.2));
    let mut text = String::new();
    for (label, value, shown) in bars {
        let line = format!("  {label:>labels$}  {shown:>texts$}  {}", bar(*value, most));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A bar as long as `value` is of `most`, to an eighth of a character.
fn bar(value: f64, most: f64) -> String {
    if most <= 0.0 {
        return String::new();
    }
    let eighths = (value / most * (WIDTH * EIGHTHS.len()) as f64).round() as usize;
    let mut bar: String = vec![EIGHTHS[7]; eighths / EIGHTHS.len()].iter().collect();
    if let Some(rest) = (eighths % EIGHTHS.len()).checked_sub(1) {
        bar.push(EIGHTHS[rest]);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        assert_eq!(bar(1.0, 1.0), "█".repeat(40));
        assert_eq!(bar(1.0, 80.0), "▌");
        assert_eq!(bar(1.5, 40.0), "█▌");
        assert_eq!(bar(0.0, 1.0), "");
        assert_eq!(bar(0.0, 0.0), "");
        let shown = bars(&[
            ("1".to_owned(), 10.0, "10".to_owned()),
            ("64".to_owned(), 5.0, "5".to_owned()),
        ]);
        let expected = format!(
            "   1  10  {}\n  64   5  {}\n",
            "█".repeat(40),
            "█".repeat(20)
        );
        assert_eq!(shown, expected);
    }
}
