//! Where predictions and bad rows go.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::encode;
use super::error::BatchError;
use super::journal::{Identity, Journal, can_resume};
use super::piece::Piece;
#[cfg(feature = "parquet")]
use super::settings::Format;
use super::settings::{Existing, STANDARD, Settings, errors_path, with_suffix};
use super::tally::{Position, Tally};

/// The output and the file of bad rows, being written.
pub(super) struct Sink {
    form: Form,
    faults: Faults,
    /// For files: their names, and what identifies their run.
    files: Option<Files>,
}

struct Files {
    output: PathBuf,
    faults: PathBuf,
    identity: Option<Identity>,
}

enum Form {
    File(File, u64),
    Stdout(io::Stdout),
    #[cfg(feature = "parquet")]
    Parquet(Box<super::parquet::Writer>),
}

enum Faults {
    File(File, u64),
    Stderr(io::Stderr),
}

/// Where a run begins.
pub(super) struct Start {
    pub(super) position: Option<Position>,
    pub(super) tally: Tally,
}

impl Start {
    const FRESH: Self = Self {
        position: None,
        tally: Tally::NONE,
    };
}

/// What is to be done with an output.
pub(super) enum Opened {
    Begin(Box<Sink>, Start),
    /// It is whole already.
    Whole,
}

/// Opens the output. The settings say what happens to an existing one.
///
/// While they are written, both files' names end in `.part`; they are renamed when all of both is on
/// the disk. An interrupted run leaves them, with its journal.
///
/// # Errors
/// If there is an output and neither `--overwrite` nor `--resume` was said, if two of the files are one,
/// if another run writes it, or if the interrupted run differs from this one.
pub(super) fn open(
    settings: &Settings,
    identity: Option<Identity>,
    encoder: &encode::Encoder<'_>,
) -> Result<Opened, BatchError> {
    check_apart(settings)?;
    if settings.output == Path::new(STANDARD) {
        let sink = Sink {
            form: Form::Stdout(io::stdout()),
            faults: stream_faults(settings)?,
            files: None,
        };
        return Ok(Opened::Begin(Box::new(sink), Start::FRESH));
    }
    let output = settings.output.clone();
    let faults = settings.errors.clone();
    let faults = faults.unwrap_or_else(|| errors_path(&output));
    let part = with_suffix(&output, ".part");
    let faults_part = with_suffix(&faults, ".part");
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    let interrupted = is_there(&Journal::path(&output));
    // A run that was killed in its first second left these and no journal.
    let begun = is_there(&part) || is_there(&faults_part);
    match settings.existing {
        Existing::Refuse if is_there(&output) => {
            return Err(BatchError::refused(format!(
                "{}: exists already; say --overwrite to replace it, or give --out another name",
                output.display()
            )));
        }
        Existing::Refuse if interrupted => {
            return Err(BatchError::refused(format!(
                "{}: is of a run that was interrupted; go on with it with --resume, or begin again \
                 with --overwrite",
                part.display()
            )));
        }
        Existing::Resume if !can_resume(settings.to) => {
            return Err(BatchError::refused(
                "--resume: expected an output of CSV or NDJSON, got Parquet, which ends in a table of \
                 its parts and cannot be gone on with; begin again with --overwrite"
                    .to_owned(),
            ));
        }
        Existing::Resume if !interrupted && !begun && is_there(&output) => {
            return Ok(Opened::Whole);
        }
        // Without a run that wrote it, it belongs to someone else.
        Existing::Refuse if is_there(&faults) => return Err(errors_there(&faults)),
        Existing::Resume if !interrupted && !begun && is_there(&faults) => {
            return Err(errors_there(&faults));
        }
        Existing::Refuse | Existing::Resume | Existing::Overwrite => {}
    }
    let files = Files {
        output,
        faults,
        identity,
    };
    let journal = match (settings.existing, &files.identity) {
        (Existing::Resume, Some(identity)) => Journal::read(&files.output, identity)?,
        (Existing::Resume, None) => {
            return Err(BatchError::refused(
                "--resume: expected a file as input, got a stream, which cannot be read again; give \
                 the file's name"
                    .to_owned(),
            ));
        }
        _ => None,
    };
    if journal.is_some() {
        // A run that was killed while it renamed the files: first the bad rows, then the output.
        if !is_there(&part) && is_there(&files.output) {
            Journal::remove(&files.output)?;
            return Ok(Opened::Whole);
        }
        if !is_there(&faults_part) && is_there(&files.faults) {
            fs::rename(&files.faults, &faults_part).map_err(BatchError::at(&files.faults))?;
        }
    }
    let output_bytes = journal.as_ref().map_or(0, |journal| journal.output_bytes);
    let faults_bytes = journal.as_ref().map_or(0, |journal| journal.faults_bytes);
    let mut output = part_of(&files.output, output_bytes)?;
    let mut faults = part_of(&files.faults, faults_bytes)?;
    if journal.is_none() {
        Journal::remove(&files.output)?;
        faults
            .write_all(encode::FAULTS_HEADER)
            .map_err(BatchError::at(&files.faults))?;
    }
    let faults_bytes = faults
        .stream_position()
        .map_err(BatchError::at(&files.faults))?;
    let form = match settings.to {
        #[cfg(feature = "parquet")]
        Format::Parquet => Form::Parquet(Box::new(super::parquet::Writer::new(output, encoder)?)),
        format => {
            if journal.is_none() {
                let header = encoder.header(format);
                output
                    .write_all(&header)
                    .map_err(BatchError::at(&files.output))?;
            }
            let bytes = output
                .stream_position()
                .map_err(BatchError::at(&files.output))?;
            Form::File(output, bytes)
        }
    };
    let start = match journal {
        Some(Journal {
            position, tally, ..
        }) => Start {
            position: Some(position),
            tally,
        },
        None => Start::FRESH,
    };
    let sink = Sink {
        form,
        faults: Faults::File(faults, faults_bytes),
        files: Some(files),
    };
    Ok(Opened::Begin(Box::new(sink), start))
}

/// Where bad rows go if the output is a stream: to a file if one is named, else to standard error.
fn stream_faults(settings: &Settings) -> Result<Faults, BatchError> {
    let Some(path) = &settings.errors else {
        return Ok(Faults::Stderr(io::stderr()));
    };
    // A device or a pipe loses nothing.
    if settings.existing == Existing::Refuse && path.is_file() {
        return Err(errors_there(path));
    }
    let mut file = File::create(path).map_err(BatchError::at(path))?;
    file.write_all(encode::FAULTS_HEADER)
        .map_err(BatchError::at(path))?;
    Ok(Faults::File(file, encode::FAULTS_HEADER.len() as u64))
}

#[cold]
fn errors_there(path: &Path) -> BatchError {
    BatchError::refused(format!(
        "--errors: expected a name that is free, got {}, which exists already; say --overwrite to \
         replace it, or give --errors another name",
        path.display()
    ))
}

/// Refuses a run in which two files are the same: it would destroy what it reads or writes.
fn check_apart(settings: &Settings) -> Result<(), BatchError> {
    let is_stream = settings.output == Path::new(STANDARD);
    let stream = |path: &Path, name: &str| match path == Path::new(STANDARD) {
        true => PathBuf::from(name),
        false => path.to_owned(),
    };
    let mut files = vec![
        ("the input", stream(&settings.input, "/dev/stdin")),
        ("the output", stream(&settings.output, "/dev/stdout")),
    ];
    let errors = settings.errors.clone();
    let errors = errors.or_else(|| (!is_stream).then(|| errors_path(&settings.output)));
    files.extend(errors.map(|errors| ("the file of --errors", errors)));
    if !is_stream {
        // The files that exist next to them while they are written.
        for index in 1..files.len() {
            files.push(("a .part", with_suffix(&files[index].1, ".part")));
        }
        files.push(("the journal", Journal::path(&settings.output)));
    }
    for (index, (first, path)) in files.iter().enumerate() {
        let same = files[index + 1..]
            .iter()
            .find(|(_, other)| are_one(path, other));
        if let Some((second, other)) = same {
            return Err(BatchError::refused(format!(
                "{}: expected files of their own for the input, the output and the bad rows, got one \
                 for {first} and {second} ({}); give --out or --errors another name",
                path.display(),
                other.display()
            )));
        }
    }
    Ok(())
}

/// Whether two names are of one file, existing or not.
fn are_one(first: &Path, second: &Path) -> bool {
    // Two devices with the same number, such as a terminal, are not a file that would be lost.
    let file = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        metadata.is_file().then(|| (metadata.dev(), metadata.ino()))
    };
    let place = |path: &Path| {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let directory = fs::canonicalize(directory.unwrap_or(Path::new("."))).ok()?;
        Some(directory.join(path.file_name()?))
    };
    let is_both = |first: Option<_>, second: Option<_>| first.is_some() && first == second;
    first == second
        || is_both(file(first), file(second))
        || place(first).is_some_and(|first| Some(first) == place(second))
}

/// Opens a file's part for this run alone, truncated to `bytes`.
fn part_of(path: &Path, bytes: u64) -> Result<File, BatchError> {
    let part = with_suffix(path, ".part");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&part);
    let mut file = file.map_err(BatchError::at(&part))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(BatchError::refused(format!(
                "{}: another run writes it; wait for it, or give --out another name",
                part.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(BatchError::at(&part)(error)),
    }
    let there = file.metadata().map_err(BatchError::at(&part))?.len();
    if there < bytes {
        return Err(BatchError::refused(format!(
            "{}: expected at least the {bytes} bytes that its journal says, got {there}; begin again \
             with --overwrite",
            part.display()
        )));
    }
    let cut = file
        .set_len(bytes)
        .and_then(|()| file.seek(io::SeekFrom::Start(bytes)));
    cut.map_err(BatchError::at(&part))?;
    Ok(file)
}

impl Sink {
    /// Writes what a block has become.
    pub(super) fn write(&mut self, piece: Piece, faults: &[u8]) -> Result<(), BatchError> {
        match (&mut self.form, piece) {
            (Form::File(file, bytes), Piece::Text(text)) => {
                *bytes += text.len() as u64;
                file.write_all(&text)
            }
            (Form::Stdout(stdout), Piece::Text(text)) => stdout.write_all(&text),
            #[cfg(feature = "parquet")]
            (Form::Parquet(writer), Piece::Rows(rows)) => writer.write(rows),
            #[cfg(feature = "parquet")]
            (Form::Parquet(_), Piece::Text(_)) | (_, Piece::Rows(_)) => {
                unreachable!("pieces are of the output's form")
            }
        }
        .map_err(|error| self.output_error(error))?;
        match &mut self.faults {
            Faults::File(file, bytes) => {
                *bytes += faults.len() as u64;
                file.write_all(faults)
            }
            Faults::Stderr(stderr) => stderr.write_all(faults),
        }
        .map_err(|error| self.faults_error(error))
    }

    /// Returns what an output to a stream begins with.
    pub(super) fn begin(&mut self, header: &[u8]) -> Result<(), BatchError> {
        match &mut self.form {
            Form::Stdout(stdout) => stdout
                .write_all(header)
                .map_err(|error| self.output_error(error)),
            _ => Ok(()),
        }
    }

    /// Syncs all that was written to the disk, and records how much that is.
    pub(super) fn note(&mut self, position: Position, tally: Tally) -> Result<(), BatchError> {
        let (Form::File(output, output_bytes), Faults::File(faults, faults_bytes)) =
            (&self.form, &self.faults)
        else {
            return Ok(());
        };
        let Some(Files {
            output: path,
            identity: Some(identity),
            ..
        }) = &self.files
        else {
            return Ok(());
        };
        // The file of bad rows first: the output must not be on disk without the rows that it lacks.
        faults
            .sync_data()
            .map_err(|error| self.faults_error(error))?;
        output
            .sync_data()
            .map_err(|error| self.output_error(error))?;
        let journal = Journal {
            identity: identity.clone(),
            position,
            output_bytes: *output_bytes,
            faults_bytes: *faults_bytes,
            tally,
        };
        journal.write(path)
    }

    /// Gives both files their names, once all of both is on the disk.
    pub(super) fn finish(self) -> Result<(), BatchError> {
        let Self {
            form,
            faults,
            files,
        } = self;
        let output = match form {
            Form::File(file, _) => Some(file),
            Form::Stdout(mut stdout) => {
                stdout
                    .flush()
                    .map_err(BatchError::at(Path::new("stdout")))?;
                None
            }
            #[cfg(feature = "parquet")]
            Form::Parquet(writer) => Some(writer.finish()?),
        };
        let Some(Files {
            output: output_path,
            faults: faults_path,
            ..
        }) = files
        else {
            return Ok(());
        };
        if let Faults::File(faults, _) = faults {
            rename_whole(&faults, &faults_path)?;
        }
        if let Some(output) = output {
            rename_whole(&output, &output_path)?;
        }
        Journal::remove(&output_path)
    }

    #[cold]
    fn output_error(&self, error: io::Error) -> BatchError {
        let path = self
            .files
            .as_ref()
            .map_or(Path::new("stdout"), |files| &files.output);
        BatchError::at(path)(error)
    }

    #[cold]
    fn faults_error(&self, error: io::Error) -> BatchError {
        let path = self
            .files
            .as_ref()
            .map_or(Path::new("stderr"), |files| &files.faults);
        BatchError::at(path)(error)
    }
}

/// Syncs a part to the disk and gives it its final name.
fn rename_whole(file: &File, path: &Path) -> Result<(), BatchError> {
    let rename = || {
        file.sync_all()?;
        fs::rename(with_suffix(path, ".part"), path)?;
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    };
    rename().map_err(BatchError::at(path))
}
