//! Writes settings as TOML with the origin of each value.

use super::layers::Settings;
use super::origin::Origin;

impl Settings {
    /// The settings as a TOML file that loads to the same settings, each value with a comment on
    /// where it came from.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut lines = Vec::new();
        for (section, settings) in &self.sections {
            lines.push((format!("[{section}]"), None));
            for setting in settings {
                lines.push((
                    format!("{} = {}", setting.key, setting.value),
                    Some(&setting.origin),
                ));
            }
            lines.push((String::new(), None));
        }
        // The blank line after the last section.
        lines.pop();
        let width = lines
            .iter()
            .filter(|(_, origin)| origin.is_some())
            .map(|(text, _)| text.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for (line, origin) in lines {
            match origin {
                None => text.push_str(&line),
                Some(origin) => {
                    let pad = width - line.chars().count();
                    text.push_str(&line);
                    text.extend(std::iter::repeat_n(' ', pad));
                    text.push_str("  # ");
                    text.push_str(&comment(origin));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// An origin as a comment: control characters, which could end the line, are shown escaped.
fn comment(origin: &Origin) -> String {
    let mut text = String::new();
    for character in origin.to_string().chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}
