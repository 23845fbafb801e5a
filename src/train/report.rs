//! The report of a training: as text, as JSON, as a page.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::digits::short;
use super::epoch::{Ending, Epoch};
use super::features::Statistics;
use super::findings::Finding;
use super::inputs::LeftOut;
use super::options::{Optimizer, Options};
use super::plots;
use super::score::{Classification, QUANTILES, Regression, Score};
use super::target::Goal;
use crate::model::ColumnKind;

/// The most classes for which the terminal shows a confusion matrix.
const MAX_SHOWN_CLASSES: usize = 20;

/// A class with less than this part of its fair share of the rows gets a warning.
const RARE: f64 = 0.2;

/// The report of a training.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was asked for.
    pub options: Options,
    /// What was learned.
    pub goal: Goal,
    /// How many weights the network has.
    pub parameters: usize,
    /// How good it is on the rows held out, or on all rows if none are.
    pub score: Score,
    /// The rows of each class that were learned from, and those held out.
    pub balance: Vec<[usize; 2]>,
    /// Columns that hurt.
    pub findings: Vec<Finding>,
    /// Columns that the network does not see.
    pub left_out: Vec<LeftOut>,
    /// The columns that it sees, and what training met in them.
    pub columns: Vec<(String, ColumnKind, Statistics)>,
    /// How many rows were learned from.
    pub rows_of_training: usize,
    /// How many were held out.
    pub rows_of_validation: usize,
    /// How many rows lack the target.
    pub rows_without_target: usize,
    /// Each epoch.
    pub history: Vec<Epoch>,
    /// The epoch whose weights were kept.
    pub best_epoch: usize,
    /// Why no more epochs followed.
    pub ending: Ending,
}

impl Report {
    /// What the score was computed on.
    fn judged(&self) -> String {
        match self.rows_of_validation {
            0 => format!(
                "the {} rows that it learned from (none were held out: new rows will score lower)",
                self.rows_of_training
            ),
            rows => format!("{rows} rows held out"),
        }
    }

    fn ended(&self) -> String {
        let epochs = self.history.len();
        let why = match self.ending {
            Ending::Epochs => "all that were asked for".to_owned(),
            Ending::Patience => format!(
                "the validation loss did not fall for {} more",
                self.options.patience
            ),
            Ending::Requested => "stopped as asked".to_owned(),
        };
        let kept = match self.rows_of_validation {
            0 => "the last weights are kept".to_owned(),
            _ => format!("the weights of epoch {} are kept", self.best_epoch),
        };
        format!("{epochs} epochs ({why}); {kept}")
    }

    fn network(&self) -> String {
        let layers = self.options.layers.to_string();
        let layers = if layers.is_empty() {
            "no hidden layer".to_owned()
        } else {
            layers
        };
        format!("{layers}, {} parameters", self.parameters)
    }

    fn optimizer(&self) -> String {
        match self.options.optimizer {
            Optimizer::AdamW {
                learning_rate,
                weight_decay,
            } => format!("AdamW, learning rate {learning_rate}, weight decay {weight_decay}"),
            Optimizer::Sgd {
                learning_rate,
                momentum,
                weight_decay,
            } => format!(
                "SGD, learning rate {learning_rate}, momentum {momentum}, weight decay {weight_decay}"
            ),
        }
    }

    /// The name of the loss.
    fn loss(&self) -> &'static str {
        match self.goal {
            Goal::Binary(_) => "binary cross-entropy",
            Goal::Multiclass(_) => "cross-entropy",
            Goal::Regression => "mean squared error (of the standardised target)",
        }
    }

    /// Warnings to read before the model is used.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.findings.iter().map(Finding::to_string).collect();
        let total: usize = self.balance.iter().flatten().sum();
        let fair = total as f64 / self.balance.len().max(1) as f64;
        for (label, [training, held_out]) in self.goal.labels().iter().zip(&self.balance) {
            let rows = training + held_out;
            if (rows as f64) < RARE * fair {
                warnings.push(format!(
                    "class {label:?} has {rows} of {total} rows: the score says little about it"
                ));
            }
            if *held_out == 0 && self.rows_of_validation > 0 {
                warnings.push(format!("class {label:?} has too few rows to hold one out"));
            }
        }
        let gain = match &self.score {
            Score::Classification(score) => score.accuracy - score.baseline,
            Score::Regression(score) => score.r2.unwrap_or(0.0),
        };
        if gain <= 0.0 {
            warnings.push(
                "the network does no better than one and the same answer for every row: try other \
                 --layers, a --learning-rate, or more columns"
                    .to_owned(),
            );
        }
        warnings
    }

    /// The report for a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |label: &str, value: &str| {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{label:<12}{value}");
        };
        line(
            "task",
            &format!("{} of {:?}", self.goal.task(), self.options.target),
        );
        line(
            "rows",
            &format!(
                "{} to learn from, {} held out{}",
                self.rows_of_training,
                self.rows_of_validation,
                match self.rows_without_target {
                    0 => String::new(),
                    rows => format!(", {rows} without target left out"),
                }
            ),
        );
        line("network", &self.network());
        line("training", &self.ended());
        line("score", &format!("on {}:", self.judged()));
        match &self.score {
            Score::Classification(score) => self.classes_to_text(score, &mut text),
            Score::Regression(score) => numbers_to_text(score, &mut text),
        }
        for warning in self.warnings() {
            let _ = writeln!(text, "warning: {}", printable(&warning));
        }
        text
    }

    fn classes_to_text(&self, score: &Classification, text: &mut String) {
        let _ = writeln!(
            text,
            "            accuracy {:.4} (always the most frequent class: {:.4}), log-loss {:.4}{}",
            score.accuracy,
            score.baseline,
            score.log_loss,
            score
                .auc
                .map_or(String::new(), |auc| format!(", AUC {auc:.4}"))
        );
        let labels: Vec<String> = self
            .goal
            .labels()
            .iter()
            .map(|label| shortened(label))
            .collect();
        let _ = writeln!(text, "classes     rows to learn from, held out");
        let width = labels
            .iter()
            .map(|label| label.chars().count())
            .max()
            .unwrap_or(0)
            .max(5);
        for (label, [training, held_out]) in
            labels.iter().zip(&self.balance).take(MAX_SHOWN_CLASSES)
        {
            let _ = writeln!(
                text,
                "            {label:<width$}  {training:>7}  {held_out:>7}"
            );
        }
        if labels.len() > MAX_SHOWN_CLASSES {
            let _ = writeln!(
                text,
                "            and {} more, in report.html",
                labels.len() - MAX_SHOWN_CLASSES
            );
            return;
        }
        let cell = width.max(
            score
                .confusion
                .iter()
                .flatten()
                .max()
                .unwrap_or(&0)
                .to_string()
                .len(),
        );
        let _ = writeln!(
            text,
            "confusion   rows: the class they have; columns: the class they are given"
        );
        let heading: Vec<String> = labels
            .iter()
            .map(|label| format!("{label:>cell$}"))
            .collect();
        let _ = writeln!(text, "            {:<width$}  {}", "", heading.join("  "));
        for (label, given) in labels.iter().zip(&score.confusion) {
            let given: Vec<String> = given
                .iter()
                .map(|count| format!("{count:>cell$}"))
                .collect();
            let _ = writeln!(text, "            {label:<width$}  {}", given.join("  "));
        }
    }

    /// The report for programs.
    pub(super) fn to_json(&self) -> Value {
        let options = &self.options;
        let score = match &self.score {
            Score::Classification(score) => json!({
                "accuracy": score.accuracy,
                "baseline_accuracy": score.baseline,
                "log_loss": score.log_loss,
                "auc": score.auc,
                "confusion": score.confusion,
            }),
            Score::Regression(score) => json!({
                "r2": score.r2,
                "rmse": score.rmse,
                "mae": score.mae,
                "baseline_rmse": score.baseline,
                "residual_quantiles": QUANTILES
                    .iter()
                    .zip(score.residuals)
                    .map(|(quantile, residual)| json!([quantile, residual]))
                    .collect::<Value>(),
            }),
        };
        let history = self.history.iter().map(|epoch| {
            json!({
                "epoch": epoch.number,
                "loss": epoch.loss,
                "validation_loss": epoch.validation_loss,
                "validation_score": epoch.validation_score,
            })
        });
        json!({
            "data": options.data.display().to_string(),
            "target": options.target,
            "task": self.goal.task(),
            "labels": self.goal.labels(),
            "layers": options.layers.to_string(),
            "loss": self.loss(),
            "optimizer": self.optimizer(),
            "batch_size": options.batch_rows,
            "seed": options.seed,
            "validation": options.validation,
            "rows": {
                "training": self.rows_of_training,
                "validation": self.rows_of_validation,
                "without_target": self.rows_without_target,
            },
            "best_epoch": self.best_epoch,
            "scored_on": if self.rows_of_validation == 0 { "training" } else { "validation" },
            "score": score,
            "warnings": self.warnings(),
            "left_out": self.left_out.iter().map(LeftOut::to_string).collect::<Vec<_>>(),
            "history": history.collect::<Value>(),
        })
    }

    /// The report as a page that needs nothing else: its plots are drawn in it.
    pub(super) fn to_html(&self, name: &str) -> String {
        let mut page = Page::new(&format!("Training of {name}"));
        page.paragraph(&format!(
            "{} of {:?} from {}, {}.",
            self.goal.task(),
            self.options.target,
            self.options.data.display(),
            self.judged()
        ));
        let warnings = self.warnings();
        if !warnings.is_empty() || !self.left_out.is_empty() {
            page.heading("To look at");
            let left_out = self.left_out.iter().map(LeftOut::to_string);
            page.list(warnings.into_iter().chain(left_out));
        }
        page.heading("Score");
        match &self.score {
            Score::Classification(score) => self.classes_to_html(score, &mut page),
            Score::Regression(score) => numbers_to_html(score, &mut page),
        }
        page.heading("Training");
        page.table(
            &["", ""],
            [
                ["network".to_owned(), self.network()],
                ["loss".to_owned(), self.loss().to_owned()],
                ["optimiser".to_owned(), self.optimizer()],
                [
                    "rows of a batch".to_owned(),
                    self.options.batch_rows.to_string(),
                ],
                ["seed".to_owned(), self.options.seed.to_string()],
                ["epochs".to_owned(), self.ended()],
            ]
            .map(Vec::from),
        );
        page.figure(plots::losses(&self.history, self.best_epoch));
        if self.rows_of_validation > 0 {
            page.figure(plots::scores(
                &self.history,
                self.best_epoch,
                self.score.main().0,
            ));
        }
        page.heading("Columns, as the rows learned from hold them");
        page.table(
            &[
                "column",
                "kind",
                "there",
                "missing",
                "mean",
                "deviation",
                "smallest",
                "largest",
                "categories",
            ],
            self.columns.iter().map(column_cells),
        );
        page.finish()
    }

    fn classes_to_html(&self, score: &Classification, page: &mut Page) {
        let mut rows = vec![
            vec!["accuracy".to_owned(), format!("{:.4}", score.accuracy)],
            vec![
                "accuracy of always the most frequent class".to_owned(),
                format!("{:.4}", score.baseline),
            ],
            vec!["log-loss".to_owned(), format!("{:.4}", score.log_loss)],
        ];
        if let Some(auc) = score.auc {
            rows.push(vec![
                "area under the ROC curve".to_owned(),
                format!("{auc:.4}"),
            ]);
        }
        page.table(&["", ""], rows);
        let labels = self.goal.labels();
        page.figure(plots::confusion(labels, &score.confusion));
        page.figure(plots::balance(labels, &self.balance));
        let rows = labels
            .iter()
            .zip(&self.balance)
            .enumerate()
            .map(|(class, (label, balance))| {
                let of = |count: usize, all: usize| match all {
                    0 => "–".to_owned(),
                    all => format!("{:.4}", count as f64 / all as f64),
                };
                let right = score.confusion[class][class];
                let has: usize = score.confusion[class].iter().sum();
                let given: usize = score.confusion.iter().map(|given| given[class]).sum();
                vec![
                    label.clone(),
                    balance[0].to_string(),
                    balance[1].to_string(),
                    of(right, has),
                    of(right, given),
                ]
            });
        page.table(
            &[
                "class",
                "rows to learn from",
                "held out",
                "recall",
                "precision",
            ],
            rows,
        );
    }
}

fn numbers_to_text(score: &Regression, text: &mut String) {
    let r2 = score.r2.map_or("–".to_owned(), |r2| format!("{r2:.4}"));
    let _ = writeln!(
        text,
        "            R² {r2}, RMSE {} (always the mean: {}), MAE {}",
        short(score.rmse),
        short(score.baseline),
        short(score.mae)
    );
    let _ = writeln!(text, "residuals   answer less truth, by quantile");
    for (quantile, residual) in QUANTILES.iter().zip(score.residuals) {
        let _ = writeln!(
            text,
            "            {:>4.0} %  {:>12}",
            quantile * 100.0,
            short(residual)
        );
    }
}

fn numbers_to_html(score: &Regression, page: &mut Page) {
    page.table(
        &["", ""],
        [
            [
                "R²".to_owned(),
                score.r2.map_or("–".to_owned(), |r2| format!("{r2:.4}")),
            ],
            ["RMSE".to_owned(), short(score.rmse)],
            ["RMSE of always the mean".to_owned(), short(score.baseline)],
            ["MAE".to_owned(), short(score.mae)],
        ]
        .map(Vec::from),
    );
    page.figure(plots::answers(&score.pairs));
    page.figure(plots::residuals(&score.pairs));
    let quantiles = QUANTILES.iter().zip(score.residuals);
    page.table(
        &["quantile", "answer less truth"],
        quantiles.map(|(quantile, residual)| {
            vec![format!("{:.0} %", quantile * 100.0), short(residual)]
        }),
    );
}

/// One line of the table of columns.
fn column_cells((name, kind, statistics): &(String, ColumnKind, Statistics)) -> Vec<String> {
    match (kind, statistics) {
        (
            _,
            Statistics::Number {
                count,
                missing,
                mean,
                std,
                min,
                max,
            },
        ) => {
            let number = |value: &f32| short(f64::from(*value));
            vec![
                name.clone(),
                "numbers".to_owned(),
                count.to_string(),
                missing.to_string(),
                number(mean),
                number(std),
                number(min),
                number(max),
                String::new(),
            ]
        }
        (kind, Statistics::Categories { missing, counts }) => {
            let categories: &[String] = match kind {
                ColumnKind::Categories(categories) => categories,
                ColumnKind::Number { .. } => &[],
            };
            let shown: Vec<String> = categories
                .iter()
                .zip(counts)
                .take(MAX_SHOWN_CLASSES)
                .map(|(category, count)| match category.as_str() {
                    "" => format!("(missing) {count}"),
                    category => format!("{category} {count}"),
                })
                .collect();
            let more = categories.len().saturating_sub(MAX_SHOWN_CLASSES);
            let more = if more > 0 {
                format!(", {more} more")
            } else {
                String::new()
            };
            let mut cells = vec![
                name.clone(),
                "categories".to_owned(),
                (counts.iter().sum::<usize>() - missing).to_string(),
                missing.to_string(),
            ];
            cells.extend(vec![String::new(); 4]);
            cells.push(shown.join(", ") + &more);
            cells
        }
    }
}

/// Text from the table without characters that control a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { '�' } else { letter })
        .collect()
}

/// A label that fits in a table of the terminal.
fn shortened(label: &str) -> String {
    const MAX_CHARS: usize = 16;
    match label.chars().count() > MAX_CHARS {
        true => label.chars().take(MAX_CHARS - 1).chain(['…']).collect(),
        false => label.to_owned(),
    }
}

/// An HTML page under construction. All text is escaped.
struct Page(String);

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem;border-bottom:1px solid #ddd}\
table{border-collapse:collapse;margin:1rem 0}\
th,td{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #eee;vertical-align:top}\
figure{margin:1rem 0}svg{max-width:100%;height:auto}";

impl Page {
    fn new(title: &str) -> Self {
        let title = escaped(title);
        Self(format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        ))
    }

    fn paragraph(&mut self, text: &str) {
        self.0 += &format!("<p>{}</p>\n", escaped(text));
    }

    fn heading(&mut self, text: &str) {
        self.0 += &format!("<h2>{}</h2>\n", escaped(text));
    }

    fn list(&mut self, items: impl Iterator<Item = String>) {
        self.0 += "<ul>\n";
        for item in items {
            self.0 += &format!("<li>{}</li>\n", escaped(&item));
        }
        self.0 += "</ul>\n";
    }

    fn table(&mut self, headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        self.0 += "<table>\n";
        if headings.iter().any(|heading| !heading.is_empty()) {
            self.0 += &cells("th", headings.iter());
        }
        for row in rows {
            self.0 += &cells("td", row.iter());
        }
        self.0 += "</table>\n";
    }

    /// Puts a drawing in the page: SVG whose texts are escaped.
    fn figure(&mut self, svg: String) {
        self.0 += &format!("<figure>{svg}</figure>\n");
    }

    fn finish(self) -> String {
        self.0 + "</body>\n</html>\n"
    }
}

fn cells(tag: &str, texts: impl Iterator<Item = impl AsRef<str>>) -> String {
    let cells = texts.map(|text| format!("<{tag}>{}</{tag}>", escaped(text.as_ref())));
    format!("<tr>{}</tr>\n", cells.collect::<String>())
}

/// Text escaped for HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter if letter.is_control() => escaped.push('�'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_in_the_page() {
        let mut page = Page::new("<script>");
        page.paragraph("a & b");
        page.list([String::from("\"'")].into_iter());
        page.table(&["<i>"], [vec!["\u{1b}[2J".to_owned()]]);
        let page = page.finish();
        for expected in [
            "<title>&lt;script&gt;</title>",
            "<p>a &amp; b</p>",
            "<li>&quot;&#39;</li>",
            "<th>&lt;i&gt;</th>",
            "<td>�[2J</td>",
        ] {
            assert!(page.contains(expected), "{expected}\n{page}");
        }
    }

    #[test]
    fn labels_are_escaped_in_plots() {
        let labels = ["<b>".to_owned(), "&\"'".to_owned()];
        let plot = plots::confusion(&labels, &[vec![1, 2], vec![0, 3]]);
        assert!(
            plot.contains("&lt;b&gt;") && !plot.contains("<b>"),
            "{plot}"
        );
        assert!(plot.contains("&amp;"), "{plot}");
        assert!(plot.starts_with("<svg"), "{plot}");
    }

    #[test]
    fn plots_of_one_epoch_and_of_equal_numbers_are_drawn() {
        let epoch = Epoch {
            number: 1,
            loss: 0.5,
            validation_loss: Some(0.5),
            validation_score: Some(1.0),
        };
        assert!(plots::losses(&[epoch], 1).contains("</svg>"));
        assert!(plots::scores(&[epoch], 1, "R²").contains("</svg>"));
        assert!(plots::answers(&[(1.0, 1.0)]).contains("</svg>"));
        assert!(plots::residuals(&[(1.0, 1.0)]).contains("</svg>"));
        assert!(plots::balance(&["a".into()], &[[0, 0]]).contains("</svg>"));
    }
}
