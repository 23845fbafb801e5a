//! The errors that the documentation states, read where it states them: the
//! tests hold the same numbers that people read.

/// What the table of functions in docs/models.md states for each of them:
/// `(name, error)`, in its order.
pub(super) fn functions() -> Vec<(&'static str, &'static str)> {
    let page = include_str!("../../../docs/models.md");
    let (_, section) = page.split_once("\n### Functions\n").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    let (_, rows) = section
        .split_once("| Error |\n|---|---|---|---|\n")
        .unwrap();
    rows.lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let (name, rest) = line[2..].split_once(" | ").unwrap();
            let (_, error) = rest.rsplit_once(" | ").unwrap();
            (name.trim_matches('`'), error.trim_end_matches(" |"))
        })
        .collect()
}

/// What docs/models.md states for one function.
pub(super) fn function(name: &str) -> &'static str {
    let functions = functions();
    let found = functions.iter().find(|(function, _)| *function == name);
    found
        .unwrap_or_else(|| panic!("docs/models.md has no function {name}"))
        .1
}

/// What the docstring of a formula in `math.rs` states: "within 2 ulp".
pub(super) fn formula(name: &str) -> &'static str {
    let source = include_str!("math.rs");
    let (before, _) = source
        .split_once(&format!("fn {name}<"))
        .unwrap_or_else(|| panic!("math.rs has no formula {name}"));
    let docstring = before.rsplit("\n\n").next().unwrap();
    let (_, error) = docstring
        .split_once("within ")
        .unwrap_or_else(|| panic!("the docstring of {name} states no error"));
    let end = error.find("ulp").unwrap() + "ulp".len();
    &error[..end]
}

/// The numbers of `exact`, of `2 ulp` and of `4 ulp, or 1e-43`: the most ulp, and
/// an absolute error that is no fault either.
pub(super) fn ulp(error: &str) -> (f64, f64) {
    if error == "exact" {
        return (0.0, 0.0);
    }
    let (ulp, absolute) = error.split_once(", or ").unwrap_or((error, "0"));
    let number = |text: &str| {
        text.parse()
            .unwrap_or_else(|_| panic!("unknown form: {error}"))
    };
    let ulp = ulp
        .strip_suffix(" ulp")
        .unwrap_or_else(|| panic!("unknown form: {error}"));
    (number(ulp), number(absolute))
}
