//! The models as a table for people.

use crate::metrics::ModelState;
use crate::model::repository::{IndexEntry, ModelRepository, Served};
use crate::tensor::TensorSpec;

const HEADINGS: [&str; 7] = [
    "MODEL",
    "VERSION",
    "INPUTS",
    "OUTPUTS",
    "PARAMETERS",
    "WEIGHTS",
    "LOADED IN",
];

/// Whether a column holds numbers, which are aligned right.
const IS_NUMBER: [bool; 7] = [false, true, false, false, true, true, true];

/// The models that serve, one line each, and the others, one line each with the reason.
pub(super) struct Overview {
    pub(super) ready: String,
    pub(super) refused: Vec<IndexEntry>,
}

pub(super) fn overview(repository: &ModelRepository) -> Overview {
    let rows: Vec<[String; 7]> = repository
        .ready()
        .iter()
        .map(|served| row(served))
        .collect();
    let refused = repository
        .index()
        .into_iter()
        .filter(|entry| entry.state != ModelState::Ready)
        .collect();
    Overview {
        ready: align(HEADINGS, IS_NUMBER, &rows),
        refused,
    }
}

fn row(served: &Served) -> [String; 7] {
    let model = &served.model;
    let signature = &model.signature;
    let outputs: Vec<&TensorSpec> = signature
        .outputs
        .iter()
        .map(|output| &output.spec)
        .collect();
    [
        model.name.clone(),
        model.version.to_string(),
        tensors(&signature.inputs.iter().collect::<Vec<_>>()),
        tensors(&outputs),
        grouped(model.engine.parameters()),
        bytes(model.engine.weight_bytes()),
        seconds(served.loaded.seconds),
    ]
}

/// The tensors of a model: the first of them, where there are more than a line can show.
fn tensors(specs: &[&TensorSpec]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = specs
        .iter()
        .take(SHOWN)
        .map(|spec| format!("{} {spec}", spec.name))
        .collect();
    let more = match specs.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {} more", grouped(more)),
    };
    shown.join(", ") + &more
}

/// Puts rows under headings, each column as wide as its widest cell; empty without rows. Numbers are
/// aligned right.
pub(super) fn align<const N: usize>(
    headings: [&str; N],
    is_number: [bool; N],
    rows: &[[String; N]],
) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let headings = headings.map(str::to_owned);
    let lines = || std::iter::once(&headings).chain(rows);
    let widths: [usize; N] = std::array::from_fn(|column| {
        lines()
            .map(|cells| cells[column].chars().count())
            .max()
            .unwrap_or(0)
    });
    let mut text = String::new();
    for cells in lines() {
        let mut line = String::new();
        for ((cell, width), is_number) in cells.iter().zip(widths).zip(is_number) {
            // A width of the formatter has 16 bits, and a name may be longer.
            let blanks = " ".repeat(width - cell.chars().count());
            let parts = match is_number {
                true => [&*blanks, cell, "  "],
                false => [cell, &*blanks, "  "],
            };
            line.extend(parts);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A number with a comma every three digits.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size with three significant digits or so, in powers of 1000 as the units say.
fn bytes(size: usize) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if size < 1000 {
        return format!("{size} B");
    }
    let mut value = size as f64 / 1e3;
    let mut unit = 0;
    // What would round to 1000 of a unit is 1 of the next.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    match value {
        value if value < 9.95 => format!("{value:.1} {}", UNITS[unit]),
        value => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// A duration in milliseconds, or in seconds from one on.
fn seconds(duration: f64) -> String {
    if duration < 1.0 {
        format!("{:.1} ms", duration * 1e3)
    } else {
        format!("{duration:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DataType, Shape};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 7]| cells.map(str::to_owned);
        let rows = [
            row(["a-long-name", "1", "x", "y", "1,000", "4.0 kB", "0.1 ms"]),
            row(["b", "12", "xx", "yy", "5", "20 B", "12.0 ms"]),
        ];
        assert_eq!(
            align(HEADINGS, IS_NUMBER, &rows),
            "MODEL        VERSION  INPUTS  OUTPUTS  PARAMETERS  WEIGHTS  LOADED IN\n\
             a-long-name        1  x       y             1,000   4.0 kB     0.1 ms\n\
             b                 12  xx      yy                5     20 B    12.0 ms\n"
        );
        assert_eq!(align(HEADINGS, IS_NUMBER, &[]), "");
    }

    #[test]
    fn a_model_of_thousands_of_tensors_has_one_line_that_can_be_read() {
        let spec = |index: usize| {
            let shape = Shape::rows(vec![index]);
            TensorSpec::new(format!("y{index}"), DataType::Fp32, shape)
        };
        let specs: Vec<TensorSpec> = (1..=2_500).map(spec).collect();
        let line = tensors(&specs.iter().collect::<Vec<_>>());
        assert!(line.starts_with("y1 FP32 [-1, 1], y2 "), "{line}");
        assert!(line.ends_with("y8 FP32 [-1, 8] and 2,492 more"), "{line}");
        // Wider than the formatter can pad.
        let long = "n".repeat(70_000);
        let rows = [["a".to_owned()], [long.clone()]];
        assert_eq!(align(["M"], [true], &rows).lines().last(), Some(&*long));
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.0 kB");
        assert_eq!(bytes(203_305), "203 kB");
        assert_eq!(bytes(999_500), "1.0 MB");
        assert_eq!(bytes(27_300_000), "27 MB");
        assert_eq!(seconds(0.001_25), "1.2 ms");
        assert_eq!(seconds(2.5), "2.5 s");
    }
}
