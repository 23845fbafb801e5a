//! Targets, next to the measurements.

/// Figures with their bounds, in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Targets(Vec<Target>);

struct Target {
    what: &'static str,
    measured: String,
    bound: String,
    is_met: bool,
}

impl Targets {
    /// A figure that must not exceed its bound.
    pub(crate) fn at_most(&mut self, what: &'static str, measured: f64, bound: f64, unit: &str) {
        self.add(what, measured, ("<=", bound), unit, measured <= bound);
    }

    /// A figure that must reach its bound.
    pub(crate) fn at_least(&mut self, what: &'static str, measured: f64, bound: f64, unit: &str) {
        self.add(what, measured, (">=", bound), unit, measured >= bound);
    }

    fn add(
        &mut self,
        what: &'static str,
        measured: f64,
        (relation, bound): (&str, f64),
        unit: &str,
        is_met: bool,
    ) {
        self.0.push(Target {
            what,
            measured: format!("{measured:.2} {unit}"),
            bound: format!("{relation} {bound:.2} {unit}"),
            is_met,
        });
    }

    pub(crate) fn print(&self) {
        println!("\n| what | measured | target | |\n|---|---|---|---|");
        for target in &self.0 {
            let Target {
                what,
                measured,
                bound,
                is_met,
            } = target;
            let verdict = if *is_met { "met" } else { "MISSED" };
            println!("| {what} | {measured} | {bound} | {verdict} |");
        }
    }

    pub(crate) fn is_any_missed(&self) -> bool {
        self.0.iter().any(|target| !target.is_met)
    }
}
