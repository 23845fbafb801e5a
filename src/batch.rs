//! Files of rows, scored: a reader cuts blocks of whole records, a thread a core decodes, runs and
//! encodes them, a writer puts them back in order.
//!
//! ```text
//! input ── cut ── block ─┬─ decode ── run ── encode ─┬─ in order ── output, bad rows
//!                        └─ ... a thread a core ... ─┘
//! ```
//!
//! Memory is constant: the number of blocks in flight is fixed, and so is the number of rows a pass.
//! Each row is accounted for: it is scored, or it is listed among the bad rows with its line.

mod encode;
mod error;
mod journal;
#[cfg(feature = "parquet")]
mod parquet;
mod piece;
mod rows;
mod settings;
mod sink;
mod source;
mod table;
mod tally;
mod text;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use self::encode::{Answers, Encoder};
use self::journal::Identity;
use self::piece::{Piece, PieceWriter};
use self::rows::Rows;
use self::sink::{Opened, Sink, Start};
use self::source::{Blocks, Body, Layouts, Source};
use self::table::Table;
use self::tally::Position;
use crate::engine::{Batch, Outputs, Workspace};
use crate::json::Writer;
use crate::model::Model;
use crate::request::Computed;
use crate::tensor::{Values, View};

pub use self::error::BatchError;
pub use self::settings::{Existing, Format, STANDARD, Settings, errors_path};
pub use self::tally::Tally;

/// How often progress is synced to disk, for a run that resumes it.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);
/// The rows of one forward pass, and the values of its widest input or output: more are no faster.
const MAX_PASS_ROWS: usize = 256;
const MAX_PASS_VALUES: usize = 1 << 20;

/// What is reported while a file is scored.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Columns of the input that are neither read by the model nor kept.
    Unused(&'a [String]),
    /// An interrupted run is resumed.
    Resumed(Tally),
    /// How far that run had come.
    Progress {
        /// The outcome of the rows until now.
        tally: Tally,
        /// How much of the input is done, in bytes or rows.
        done: u64,
        /// The size of the input in the same unit, if known.
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
/// not for bad rows, which the tally counts.
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
            "{STANDARD}: expected a file of Parquet, got a stream, which has no random access; \
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
    /// Scores all blocks; returns the outcome of their rows and of earlier ones.
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
            // No one waits for blocks that no worker is left to take.
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
                            // Without a writer there is no one to tell.
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
            let next = taken.lock().expect("no one panics while holding it").recv();
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
                let outputs = self.model.engine.run(batch, workspace, None);
                let answers = Answers {
                    lines: &rows.lines,
                    kept: &rows.kept,
                    engine_outputs: self.model.engine.outputs().len(),
                    finished: self.finish(batch.rows, &outputs),
                    outputs,
                };
                tally.scored += piece.rows(self.encoder, &answers, &mut rows.faults);
            }
            tally.bad += rows.faults.len() as u64;
            encode::faults(&mut rows.faults, &mut faults);
            if !more {
                break;
            }
        }
        // Counted twice, by the code that cut the lines and by the code that read their rows.
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

    /// The outputs that the step after the engine makes of some rows, if any of them is wanted.
    fn finish(&self, rows: usize, outputs: &Outputs<'_>) -> Vec<Values> {
        let Some(step) = &self.model.finish else {
            return Vec::new();
        };
        if !self.encoder.wants_finished() {
            return Vec::new();
        }
        let count = self.model.engine.outputs().len();
        let outputs: Vec<&[f32]> = (0..count).map(|i| outputs.get(i)).collect();
        step.finish(Computed {
            rows,
            offsets: &[],
            outputs: &outputs,
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
                // The reader lives until its last permit is back or nothing is left to read.
                let _ = returned.recv();
            }
        }
        match early.is_empty() {
            true => Ok(tally),
            false => Err(BatchError::Lost { tally }),
        }
    }
}

/// The error of a panic.
fn broken(panic: &(dyn Any + Send)) -> BatchError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    BatchError::Broken {
        message: text.unwrap_or_else(|| "a panic".to_owned()),
    }
}
