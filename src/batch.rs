//! Files of rows, scored: a reader cuts blocks of whole records, a thread a core decodes, runs and
//! encodes them, a writer puts them back in order.
//!
//! ```text
//! input ── cut ── block ─┬─ decode ── run ── encode ─┬─ in order ── output, bad rows
//!                        └─ ... a thread a core ... ─┘
//! ```
//!
//! Memory is constant: so many blocks are on their way and no more, and the rows of one pass are few.
//! Each row is accounted for: it is scored, or it stands among the bad rows with its line.

mod encode;
mod journal;
#[cfg(feature = "parquet")]
mod parquet;
mod rows;
mod sink;
mod source;
mod table;
mod text;

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::encode::{Answers, Encoder, PieceWriter};
use self::journal::Identity;
use self::rows::Rows;
use self::sink::{Opened, Piece, Sink, Start};
use self::source::{Blocks, Body, Layouts, Source};
use self::table::Table;
use crate::engine::{Batch, Workspace};
use crate::json::Writer;
use crate::model::Model;
use crate::tensor::View;

/// The name of standard input and of standard output.
pub const STANDARD: &str = "-";

/// How often what was done is made sure of, for a run that goes on with it.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);
/// The rows of one forward pass, and the values of its widest input or output: more are no faster.
const MAX_PASS_ROWS: usize = 256;
const MAX_PASS_VALUES: usize = 1 << 20;

/// What a file holds its rows in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180.
    Csv,
    /// A JSON document a line.
    Ndjson,
    /// Apache Parquet; needs the feature `parquet`.
    Parquet,
}

impl Format {
    /// That of a file's name, by its last extension.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match &*extension {
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" | "pq" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// What to do with an output that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it alone and say so.
    Refuse,
    /// Replace it.
    Overwrite,
    /// Go on where an interrupted run ended; begin if there was none.
    Resume,
}

/// What is scored, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The input; [`STANDARD`] is standard input.
    pub input: PathBuf,
    /// Its form.
    pub from: Format,
    /// Whether CSV begins with the names of its columns.
    pub header: bool,
    /// The output; [`STANDARD`] is standard output.
    pub output: PathBuf,
    /// Its form.
    pub to: Format,
    /// The file of bad rows; `None` for the output's name with `.errors.csv` behind it.
    pub errors: Option<PathBuf>,
    /// What to do if the output exists.
    pub existing: Existing,
    /// Whether the output says from which line each row is.
    pub line: bool,
    /// The columns of the input that are carried along.
    pub keep: Vec<String>,
    /// The model's outputs that are written; none for all.
    pub outputs: Vec<String>,
    /// The threads that compute.
    pub threads: usize,
}

/// A place in an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// In bytes; of Parquet in rows.
    offset: u64,
    /// From 1; of Parquet the row.
    line: u64,
}

impl Position {
    const START: Self = Self { offset: 0, line: 1 };
}

/// What became of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The rows of the input.
    pub rows: u64,
    /// Those that were scored.
    pub scored: u64,
    /// Those that were not, of which the file of bad rows says why.
    pub bad: u64,
    /// Lines with nothing on them, which are no rows.
    pub blank: u64,
}

impl Tally {
    const NONE: Self = Self {
        rows: 0,
        scored: 0,
        bad: 0,
        blank: 0,
    };

    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.scored += other.scored;
        self.bad += other.bad;
        self.blank += other.blank;
    }
}

/// What is told while a file is scored.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Columns of the input that neither the model reads nor anybody keeps.
    Unused(&'a [String]),
    /// An interrupted run is gone on with.
    Resumed(Tally),
    /// So far it is.
    Progress {
        /// What became of the rows until now.
        tally: Tally,
        /// How much of the input is behind, in bytes or rows.
        done: u64,
        /// How much the input has of them, if that can be told.
        total: Option<u64>,
    },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The whole input is accounted for.
    Scored(Tally),
    /// There was nothing to resume: the output is whole.
    WholeAlready,
}

/// Scores a file.
///
/// # Errors
/// [`BatchError`] if files cannot be read or written, do not fit the model, or an output is in the way;
/// not for rows that are bad, of which the tally tells.
pub fn score(
    model: &Model,
    settings: &Settings,
    mut tell: impl FnMut(Event<'_>),
) -> Result<Done, BatchError> {
    for (path, format) in [
        (&settings.input, settings.from),
        (&settings.output, settings.to),
    ] {
        if format == Format::Parquet {
            check_parquet(path)?;
        }
    }
    let table = Table::new(&model.signature, &settings.keep);
    let encoder = Encoder::new(
        &model.signature,
        &settings.outputs,
        &settings.keep,
        settings.line,
    )?;
    let block_bytes = block_bytes(&table, &encoder);
    let mut source = Source::open(settings, &table, block_bytes)?;
    if !source.unused().is_empty() {
        tell(Event::Unused(source.unused()));
    }
    let identity = match source.file() {
        Some(file) => {
            Some(Identity::of(model, settings, file).map_err(BatchError::at(&settings.input))?)
        }
        None => None,
    };
    let (mut sink, Start { position, tally }) = match sink::open(settings, identity, &encoder)? {
        Opened::Begin(sink, start) => (sink, start),
        Opened::Whole => return Ok(Done::WholeAlready),
    };
    sink.begin(&encoder.header(settings.to))?;
    if let Some(position) = position {
        tell(Event::Resumed(tally));
        source.go_to(position)?;
    }
    let run = Run {
        model,
        table: &table,
        encoder: &encoder,
        layouts: &source.layouts(),
        to: settings.to,
    };
    let total = source.total();
    let tally = run.all(
        settings,
        source.into_blocks(),
        &mut sink,
        tally,
        |tally, done| {
            tell(Event::Progress { tally, done, total });
        },
    )?;
    if tally.rows != tally.scored + tally.bad {
        return Err(BatchError::Lost { tally });
    }
    sink.finish()?;
    Ok(Done::Scored(tally))
}

/// Refuses Parquet that cannot be read or written.
fn check_parquet(path: &Path) -> Result<(), BatchError> {
    if !cfg!(feature = "parquet") {
        return Err(BatchError::refused(format!(
            "{}: expected CSV or NDJSON, as this safeserve was built without Parquet; build it with \
             --features parquet, or convert the file",
            path.display()
        )));
    }
    if path == Path::new(STANDARD) {
        return Err(BatchError::refused(format!(
            "{STANDARD}: expected a file of Parquet, got a stream, in which one cannot go to and fro; \
             give it a name"
        )));
    }
    Ok(())
}

/// The size of blocks: large enough that handing them over costs nothing, and small enough that what
/// they become is not large, where a few cells become many numbers.
fn block_bytes(table: &Table, encoder: &Encoder<'_>) -> usize {
    const MOST: usize = 256 << 10;
    const LEAST: usize = 4 << 10;
    const MOST_BECOME: usize = 4 << 20;
    /// The shortest cell of the input with its comma, and about the longest of the output.
    const IN: usize = 2;
    const OUT: usize = 16;

    let cells = table.columns.len().max(1);
    let rows = MOST_BECOME / (OUT * encoder.width().max(1));
    (rows * cells * IN).clamp(LEAST, MOST)
}

/// What all threads of a run share.
struct Run<'a> {
    model: &'a Model,
    table: &'a Table,
    encoder: &'a Encoder<'a>,
    layouts: &'a Layouts,
    to: Format,
}

/// A block, scored.
struct Scored {
    piece: Piece,
    faults: Vec<u8>,
    tally: Tally,
    end: Position,
}

type Numbered<T> = (u64, Result<T, BatchError>);

impl Run<'_> {
    /// Scores all blocks; returns what became of their rows and those before.
    fn all(
        &self,
        settings: &Settings,
        mut blocks: Blocks,
        sink: &mut Sink,
        tally: Tally,
        progress: impl FnMut(Tally, u64),
    ) -> Result<Tally, BatchError> {
        let threads = settings.threads.max(1);
        thread::scope(|scope| {
            // A permit a block, from when it is read until it is written.
            let (permits, returned) = sync_channel(2 * threads + 2);
            let (waiting, taken) = channel();
            let (scored, written) = channel();
            let taken = Arc::new(Mutex::new(taken));
            for _ in 0..threads {
                let (taken, scored) = (taken.clone(), scored.clone());
                scope.spawn(move || self.work(&taken, &scored));
            }
            // Nobody waits for blocks that no worker is there to take.
            drop(taken);
            scope.spawn(move || {
                for index in 0.. {
                    if permits.send(()).is_err() {
                        return;
                    }
                    let sent = match blocks.next() {
                        Ok(Some(block)) => waiting.send((index, block)).is_ok(),
                        Ok(None) => false,
                        Err(error) => {
                            // Without a writer there is nobody to tell.
                            let _ = scored.send((index, Err(error)));
                            false
                        }
                    };
                    if !sent {
                        return;
                    }
                }
            });
            self.write(written, returned, sink, tally, progress)
        })
    }

    /// Scores blocks as they come.
    fn work(&self, taken: &Mutex<Receiver<(u64, Body)>>, scored: &Sender<Numbered<Scored>>) {
        let mut workspace = Workspace::new();
        let mut rows = Rows::new(self.table);
        loop {
            let next = taken.lock().expect("nobody panics with it").recv();
            let Ok((index, block)) = next else {
                return;
            };
            let block = AssertUnwindSafe(|| self.block(&block, &mut rows, &mut workspace));
            let outcome = catch_unwind(block).unwrap_or_else(|panic| Err(broken(&*panic)));
            if scored.send((index, outcome)).is_err() {
                return;
            }
        }
    }

    /// Scores a block, some rows at a time.
    fn block(
        &self,
        block: &Body,
        rows: &mut Rows,
        workspace: &mut Workspace,
    ) -> Result<Scored, BatchError> {
        let mut records = self.layouts.records(self.table, block);
        let mut piece = PieceWriter::new(self.to, self.encoder);
        let mut faults = Writer::default();
        let mut tally = Tally::NONE;
        let max_rows = self.pass_rows();
        loop {
            rows.clear();
            let more = records.read(max_rows, rows);
            tally.blank += rows.blank;
            tally.rows += (rows.count() + rows.faults.len()) as u64;
            if rows.count() > 0 {
                let inputs: Vec<View<'_>> = rows.inputs.iter().map(|v| View::F32(v)).collect();
                let batch = Batch::of_rows(rows.lines.len(), &inputs);
                let answers = Answers {
                    lines: &rows.lines,
                    kept: &rows.kept,
                    outputs: self.model.engine.run(batch, workspace, None),
                };
                tally.scored += piece.rows(self.encoder, &answers, &mut rows.faults);
            }
            tally.bad += rows.faults.len() as u64;
            encode::faults(&mut rows.faults, &mut faults);
            if !more {
                break;
            }
        }
        // Counted twice, by who cut the lines and by who read the rows in them.
        if records.line() != block.end().line {
            return Err(BatchError::Lost { tally });
        }
        Ok(Scored {
            piece: piece.finish(),
            faults: faults.into_bytes(),
            tally,
            end: block.end(),
        })
    }

    fn pass_rows(&self) -> usize {
        let engine = &self.model.engine;
        let specs = engine.inputs().iter().chain(engine.outputs());
        let widest = specs.map(|spec| spec.shape.elements()).max().unwrap_or(1);
        (MAX_PASS_VALUES / widest.max(1)).clamp(1, MAX_PASS_ROWS)
    }

    /// Writes blocks in their order.
    fn write(
        &self,
        written: Receiver<Numbered<Scored>>,
        returned: Receiver<()>,
        sink: &mut Sink,
        mut tally: Tally,
        mut progress: impl FnMut(Tally, u64),
    ) -> Result<Tally, BatchError> {
        let mut early = BTreeMap::new();
        let mut next = 0;
        let mut noted = Instant::now();
        for (index, outcome) in written {
            early.insert(index, outcome);
            while let Some(outcome) = early.remove(&next) {
                let scored = outcome?;
                sink.write(scored.piece, &scored.faults)?;
                tally.add(scored.tally);
                if noted.elapsed() >= NOTE_INTERVAL {
                    sink.note(scored.end, tally)?;
                    noted = Instant::now();
                }
                progress(tally, scored.end.offset);
                next += 1;
                // The reader is there until its last permit is back, or has nothing to read.
                let _ = returned.recv();
            }
        }
        match early.is_empty() {
            true => Ok(tally),
            false => Err(BatchError::Lost { tally }),
        }
    }
}

/// Why a file is not scored.
#[derive(Debug)]
pub enum BatchError {
    /// A file cannot be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The input, the output and the model do not fit what was asked for.
    Refused {
        /// The place, what was expected, what is there, and the mend.
        message: String,
    },
    /// The count of rows does not come out. It is a fault of the program.
    Lost {
        /// What became of the rows.
        tally: Tally,
    },
    /// A thread panicked. It is a fault of the program.
    Broken {
        /// With which words.
        message: String,
    },
}

impl BatchError {
    fn refused(message: String) -> Self {
        Self::Refused { message }
    }

    /// Of a file.
    fn at(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File {
            path: path.clone(),
            error,
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Refused { message } => f.write_str(message),
            Self::Lost { tally } => write!(
                f,
                "expected {} rows to be scored or bad, got {} scored and {} bad; this is a fault of \
                 safeserve: keep the input and report it",
                tally.rows, tally.scored, tally.bad
            ),
            Self::Broken { message } => write!(
                f,
                "the forward pass failed ({message}); this is a fault of safeserve: keep the input \
                 and report it"
            ),
        }
    }
}

impl std::error::Error for BatchError {}

/// The error of a panic.
fn broken(panic: &(dyn Any + Send)) -> BatchError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    BatchError::Broken {
        message: text.unwrap_or_else(|| "a panic".to_owned()),
    }
}

/// The file of bad rows of an output, if none is named.
#[must_use]
pub fn errors_path(output: &Path) -> PathBuf {
    beside(output, ".errors.csv")
}

/// A file's name with more behind it.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}
