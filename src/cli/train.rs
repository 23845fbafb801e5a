//! `safeserve train`: from a table to a model.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Builder;

use super::console::{print, report};
use super::example::command;
use super::exit::Exit;
use crate::config::Settings;
use crate::server::Signals;
use crate::train::{
    self, Epoch, Layers, Observer, Optimizer, Options, Stop, TaskName, TrainError, Trained, options,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The table: a CSV file with a header.
    #[arg(value_name = "DATA.csv")]
    data: PathBuf,
    /// The column to predict.
    #[arg(long, value_name = "COLUMN")]
    target: String,
    /// Where the model comes: DIR/NAME; if it is there, the result is its next version.
    #[arg(long, value_name = "DIR/NAME")]
    out: PathBuf,
    /// What to learn [default: guessed from the target's values].
    #[arg(long, value_enum)]
    task: Option<Task>,
    /// The layers before the last, as UNITS:ACTIVATION,...; an empty text makes a linear model.
    #[arg(long, value_name = "LAYERS", default_value = options::LAYERS)]
    layers: Layers,
    /// Columns that hold categories, though they look like numbers or names.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    categories: Vec<String>,
    /// Columns that are not learned from.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    ignore: Vec<String>,
    /// Texts that mean a missing value, as NA does in some tables; the empty one does always.
    #[arg(long, value_name = "TEXTS", value_delimiter = ',')]
    missing: Vec<String>,
    /// What separates cells; \t for a tab.
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = delimiter)]
    delimiter: u8,
    /// The part of the rows that is held out to judge by; 0 holds none out.
    #[arg(long, value_name = "PART", default_value_t = options::VALIDATION)]
    validation: f64,
    /// How weights follow their gradients.
    #[arg(long, value_enum, default_value = "adamw")]
    optimizer: Method,
    /// The length of a step [default: 0.003 of adamw, 0.05 of sgd].
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// The part of the last step that goes on, of sgd [default: 0.9].
    #[arg(long, value_name = "PART")]
    momentum: Option<f64>,
    /// How fast weights decay [default: 0.01 of adamw, 0 of sgd].
    #[arg(long, value_name = "RATE")]
    weight_decay: Option<f64>,
    /// Rows of a mini-batch.
    #[arg(long, value_name = "ROWS", default_value_t = options::BATCH_ROWS)]
    batch_size: usize,
    /// The most times that every row is seen.
    #[arg(long, value_name = "EPOCHS", default_value_t = options::EPOCHS)]
    epochs: usize,
    /// After how many epochs without a lower validation loss to stop; 0 never does.
    #[arg(long, value_name = "EPOCHS", default_value_t = options::PATIENCE)]
    patience: usize,
    /// What all chance comes from: the same seed, table and options give the same weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What the model does, for people.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Task {
    BinaryClassification,
    MulticlassClassification,
    Regression,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Adam with decoupled weight decay.
    Adamw,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

/// One byte, or `\t`.
fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => Ok(*byte),
        _ => Err(
            "expected one ASCII character that is no quote, for example ';' or '\\t'".to_owned(),
        ),
    }
}

impl Arguments {
    fn options(&self) -> Result<Options, TrainError> {
        Ok(Options {
            delimiter: self.delimiter,
            task: self.task.map(|task| match task {
                Task::BinaryClassification => TaskName::Binary,
                Task::MulticlassClassification => TaskName::Multiclass,
                Task::Regression => TaskName::Regression,
            }),
            categories: self.categories.clone(),
            ignore: self.ignore.clone(),
            missing: self.missing.clone(),
            layers: self.layers.clone(),
            optimizer: self.optimizer()?,
            batch_rows: self.batch_size,
            epochs: self.epochs,
            patience: self.patience,
            validation: self.validation,
            seed: self.seed,
            description: self.description.clone(),
            ..Options::new(self.data.clone(), &self.target, self.out.clone())
        })
    }

    fn optimizer(&self) -> Result<Optimizer, TrainError> {
        match (self.optimizer, self.momentum) {
            (Method::Adamw, Some(_)) => Err(TrainError::Option {
                flag: "--momentum",
                problem: "adamw has none; leave it out, or give --optimizer sgd".to_owned(),
            }),
            (Method::Adamw, None) => Ok(Optimizer::adamw(self.learning_rate, self.weight_decay)),
            (Method::Sgd, momentum) => Ok(Optimizer::sgd(
                self.learning_rate,
                momentum,
                self.weight_decay,
            )),
        }
    }
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> Exit {
    let trained = Interrupts::watch()
        .map_err(|error| TrainError::File {
            path: "signals".into(),
            error,
        })
        .and_then(|interrupts| {
            let options = arguments.options()?;
            let mut watcher = Watcher::new(interrupts, options.epochs);
            let trained = train::train(&options, &mut watcher);
            watcher.bar.finish_and_clear();
            trained
        });
    match trained {
        Ok(trained) => {
            print(&summary(&trained, settings));
            Exit::Done
        }
        Err(error) => {
            report(&error);
            match error {
                TrainError::Option { .. } => Exit::BadSettings,
                TrainError::Interrupted => Exit::Forced,
                _ => Exit::Failed,
            }
        }
    }
}

/// What a person needs to know at the end.
fn summary(trained: &Trained, settings: &Settings) -> String {
    let directory = trained.directory.display();
    let repository = trained.directory.parent().and_then(|model| model.parent());
    let repository = repository.map_or(".".to_owned(), |path| match path.as_os_str().is_empty() {
        true => ".".to_owned(),
        false => path.display().to_string(),
    });
    format!(
        "{}report      {directory}/report.html\nmodel       {} version {} in {directory}\n\n\
         A running server of {repository} takes it up by itself; else `safeserve --models {repository}`. \
         Then:\n  {}\n",
        trained.report.to_text(),
        trained.name,
        trained.version,
        command(&trained.name, &trained.example, settings.config.server.bind)
    )
}

/// How often a signal came.
struct Interrupts(Arc<AtomicU8>);

impl Interrupts {
    /// Counts signals from now on; they do nothing else any more.
    fn watch() -> io::Result<Self> {
        let count = Arc::new(AtomicU8::new(0));
        let seen = Arc::clone(&count);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _inside = runtime.enter();
            Signals::catch()?
        };
        // It ends with the process.
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    loop {
                        signals.next().await;
                        let count = seen.load(Ordering::Relaxed);
                        seen.store(count.saturating_add(1), Ordering::Relaxed);
                    }
                });
            })?;
        Ok(Self(count))
    }

    fn stop(&self) -> Stop {
        match self.0.load(Ordering::Relaxed) {
            0 => Stop::No,
            1 => Stop::Keep,
            _ => Stop::Abandon,
        }
    }
}

/// Shows how a training goes: a bar on a terminal, else a line now and then.
struct Watcher {
    interrupts: Interrupts,
    bar: ProgressBar,
    is_terminal: bool,
    epochs: usize,
}

/// How many lines report on a training whose output is not a terminal.
const LINES: usize = 10;

impl Watcher {
    fn new(interrupts: Interrupts, epochs: usize) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let bar = match is_terminal {
            true => ProgressBar::new(epochs as u64),
            false => ProgressBar::hidden(),
        };
        let style = "{bar:30} epoch {pos}/{len}  {msg}  {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is sound"));
        Self {
            interrupts,
            bar,
            is_terminal,
            epochs,
        }
    }

    fn line(&self, line: &str) {
        // Texts of the table must not control the terminal.
        let line: String = line
            .chars()
            .map(|letter| if letter.is_control() { '�' } else { letter })
            .collect();
        match self.is_terminal {
            true => self.bar.println(line),
            // If no one reads it, the error cannot be reported.
            false => drop(writeln!(io::stderr(), "{line}")),
        }
    }
}

impl Observer for Watcher {
    fn said(&mut self, line: &str) {
        self.line(line);
    }

    fn epoch(&mut self, epoch: &Epoch) {
        let mut text = format!("loss {:.4}", epoch.loss);
        if let Some(loss) = epoch.validation_loss {
            text += &format!(", validation loss {loss:.4}");
        }
        if let Some(score) = epoch.validation_score {
            text += &format!(", score {score:.4}");
        }
        if self.is_terminal {
            self.bar.set_position(epoch.number as u64);
            self.bar.set_message(text);
            return;
        }
        let every = self.epochs.div_ceil(LINES).max(1);
        if epoch.number == 1 || epoch.number.is_multiple_of(every) {
            self.line(&format!("epoch {}/{}: {text}", epoch.number, self.epochs));
        }
    }

    fn stop(&self) -> Stop {
        self.interrupts.stop()
    }
}
