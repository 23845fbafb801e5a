//! `safeserve predict`: scores a file.

mod progress;

use std::path::{Path, PathBuf};
use std::thread;

use clap::{Args, ValueEnum};

use self::progress::Progress;
use super::console::{report, tell};
use super::exit::Exit;
use crate::batch::{self, Done, Event, Existing, Format, STANDARD, Settings as Job};
use crate::config::Settings;
use crate::model::Model;
use crate::names::ModelName;
use crate::tensor::{DataType, Domain, TensorSpec};

/// The arguments of `predict`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The model: its name in the model repository, NAME/VERSION, or its directory.
    #[arg(long, value_name = "NAME|DIR")]
    model: String,
    /// The rows: a file of CSV, NDJSON or Parquet, or - for standard input.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where the predictions go: a file of CSV, NDJSON or Parquet, or - for standard output.
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// Where the bad rows go, as CSV [default: OUT.errors.csv; of - standard error].
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
    /// Replace OUT and the file of bad rows if they exist.
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Go on where an interrupted run ended; begin if there was none.
    #[arg(long)]
    resume: bool,
    /// Columns of the input that are written beside the predictions.
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    keep: Vec<String>,
    /// The model's outputs that are written [default: all].
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    outputs: Vec<String>,
    /// Leave out the column with the number of the input's line.
    #[arg(long)]
    no_line: bool,
    /// CSV whose first line is a row: its columns are the model's, in their order.
    #[arg(long)]
    no_header: bool,
    /// The form of IN [default: by its name, and CSV for -].
    #[arg(long, value_name = "FORMAT")]
    from: Option<Form>,
    /// The form of OUT [default: by its name, and CSV for -].
    #[arg(long, value_name = "FORMAT")]
    to: Option<Form>,
    /// The threads that compute [default: as many as there are cores].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Show no progress and no notes; errors and bad rows are told as ever.
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Csv,
    Ndjson,
    Parquet,
}

impl From<Form> for Format {
    fn from(form: Form) -> Self {
        match form {
            Form::Csv => Self::Csv,
            Form::Ndjson => Self::Ndjson,
            Form::Parquet => Self::Parquet,
        }
    }
}

pub(super) fn run(options: Options, settings: &Settings) -> Exit {
    let directory = Path::new(&settings.config.models.dir);
    let job = match job(&options) {
        Ok(job) => job,
        Err(problem) => return refuse(&problem, Exit::BadSettings),
    };
    let found = match find(
        &options.model,
        directory,
        settings.config.models.name.as_ref(),
    ) {
        Ok(found) => found,
        Err(problem) => return refuse(&problem, Exit::BadRepository),
    };
    let name = &options.model;
    let model = match Model::load(name, found.version, &found.directory) {
        Ok(model) => model,
        Err(error) => {
            let problem = format!("{}: {error}", found.directory.display());
            return refuse(&problem, Exit::BadRepository);
        }
    };
    if let Err(problem) = expect_numbers(&model) {
        let problem = format!("{}: {problem}", found.directory.display());
        return refuse(&problem, Exit::BadRepository);
    }
    let mut progress = Progress::new(options.quiet);
    let done = batch::score(&model, &job, |event| match event {
        Event::Unused(columns) => progress.note(&format!(
            "columns that the model does not read: {}",
            columns.join(", ")
        )),
        Event::Resumed(tally) => {
            progress.note(&format!("going on behind {} rows", tally.rows));
            progress.start_at(tally);
        }
        Event::Progress { tally, done, total } => progress.show(tally, done, total),
    });
    progress.end();
    match done {
        Ok(Done::Scored(tally)) => {
            let errors = job.errors.as_deref().map(Path::to_owned);
            let errors = errors.unwrap_or_else(|| beside(&job.output));
            tell(&progress::summary(tally, &job.output, &errors));
            match tally.bad {
                0 => Exit::Done,
                _ => Exit::Failed,
            }
        }
        Ok(Done::WholeAlready) => {
            tell(&format!("{}: whole already", job.output.display()));
            Exit::Done
        }
        Err(error) => {
            report(&error);
            match error {
                batch::BatchError::Refused { .. } => Exit::BadSettings,
                _ => Exit::Failed,
            }
        }
    }
}

fn refuse(problem: &str, exit: Exit) -> Exit {
    tell(problem);
    exit
}

/// Checks that files of rows can carry what a model takes: they are read into single precision, as many
/// numbers for each row.
fn expect_numbers(model: &Model) -> Result<(), String> {
    if model.prepare.is_some() {
        return Err("its requests are prepared before it computes them, and files are not; serve the model and \
                    send it requests"
            .to_owned());
    }
    let mut inputs = model.signature.inputs.iter();
    let fits =
        |spec: &&TensorSpec| spec.datatype == DataType::Fp32 && spec.shape.domain == Domain::Rows;
    match inputs.find(|spec| !fits(spec)) {
        None => Ok(()),
        Some(spec) => Err(format!(
            "input {:?}: expected FP32 of a fixed shape, got {spec}; files are read as numbers, so serve \
             the model and send it requests",
            spec.name
        )),
    }
}

/// The file of bad rows beside an output.
fn beside(output: &Path) -> PathBuf {
    match output == Path::new(STANDARD) {
        true => "standard error".into(),
        false => batch::errors_path(output),
    }
}

/// What is to be done.
fn job(options: &Options) -> Result<Job, String> {
    let from = format("IN", &options.input, "--from", options.from)?;
    let to = format("OUT", &options.out, "--to", options.to)?;
    let is_stream = options.out == Path::new(STANDARD);
    // The file of bad rows may be there even so.
    if is_stream && (options.resume || options.overwrite && options.errors.is_none()) {
        return Err(
            "--resume, --overwrite: expected a file as OUT, got standard output; leave them out \
             (--overwrite goes with --errors)"
                .to_owned(),
        );
    }
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    Ok(Job {
        input: options.input.clone(),
        from,
        header: !options.no_header,
        output: options.out.clone(),
        to,
        errors: options.errors.clone(),
        existing: match (options.overwrite, options.resume) {
            (true, _) => Existing::Overwrite,
            (_, true) => Existing::Resume,
            _ => Existing::Refuse,
        },
        line: !options.no_line,
        keep: options.keep.clone(),
        outputs: options.outputs.clone(),
        threads: options.threads.map_or_else(cores, usize::from),
    })
}

/// The form of a file: as said, or by its name.
fn format(argument: &str, path: &Path, flag: &str, said: Option<Form>) -> Result<Format, String> {
    let is_stream = path == Path::new(STANDARD);
    let format = match said {
        Some(form) => form.into(),
        None if is_stream => Format::Csv,
        None => Format::of(path).ok_or_else(|| {
            format!(
                "{argument}: expected a name that ends in .csv, .ndjson, .jsonl or .parquet, got {}; \
                 say what it is with {flag}",
                path.display()
            )
        })?,
    };
    Ok(format)
}

/// A model's files.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    directory: PathBuf,
    version: u64,
}

/// Finds a model: a directory, or a name in the repository, of several versions the newest.
/// If the repository is the directory of one model, `only` is that model's name.
fn find(model: &str, repository: &Path, only: Option<&ModelName>) -> Result<Found, String> {
    let here = PathBuf::from(model);
    // A name alone is one of the repository before it is a directory that happens to be here.
    let places = match only {
        Some(only) if only.as_str() == model => [repository.to_owned(), here],
        _ if model.contains('/') => [here, repository.join(model)],
        _ => [repository.join(model), here],
    };
    for place in &places {
        if is_model(place) {
            let version = place
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok());
            return Ok(Found {
                directory: place.clone(),
                version: version.unwrap_or(1),
            });
        }
        if let Some(version) = newest(place) {
            return Ok(Found {
                directory: place.join(version.to_string()),
                version,
            });
        }
    }
    let [first, second] = places.map(|place| place.display().to_string());
    Err(format!(
        "--model: expected a model's directory or its name in the repository {}, got {model:?}; there \
         is no config.json in {first} or {second}, nor in a version below; --models says where the \
         repository is",
        repository.display()
    ))
}

fn is_model(directory: &Path) -> bool {
    directory.join("config.json").is_file()
}

/// The highest version below a model's directory.
fn newest(directory: &Path) -> Option<u64> {
    let entries = directory.read_dir().ok()?;
    let entries = entries.flatten().filter(|entry| is_model(&entry.path()));
    let versions = entries.filter_map(|entry| {
        let name = entry.file_name();
        let version: u64 = name.to_str()?.parse().ok()?;
        (version > 0 && version.to_string() == *name.to_str()?).then_some(version)
    });
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_by_name_version_and_directory() {
        let root = tempfile::tempdir().unwrap();
        for place in ["iris/2", "iris/10", "iris/old", "flat"] {
            std::fs::create_dir_all(root.path().join(place)).unwrap();
            std::fs::write(root.path().join(place).join("config.json"), "{}").unwrap();
        }
        let found = |model: &str| find(model, root.path(), None);
        let expected = |place: &str, version| {
            let directory = root.path().join(place);
            Ok(Found { directory, version })
        };
        assert_eq!(found("iris"), expected("iris/10", 10));
        assert_eq!(found("iris/2"), expected("iris/2", 2));
        assert_eq!(found("flat"), expected("flat", 1));
        let only: ModelName = "flowers".parse().unwrap();
        let whole = root.path().join("iris");
        assert_eq!(
            find("flowers", &whole, Some(&only)),
            expected("iris/10", 10)
        );
        assert_eq!(found(whole.to_str().unwrap()), expected("iris/10", 10));
        let error = found("rose").unwrap_err();
        assert!(
            error.contains("--model: expected a model's directory"),
            "{error}"
        );
    }

    #[test]
    fn forms_go_by_name_and_what_is_said_goes_first() {
        let of = |name: &str, said| format("IN", Path::new(name), "--from", said);
        assert_eq!(of("a.CSV", None), Ok(Format::Csv));
        assert_eq!(of("a.jsonl", None), Ok(Format::Ndjson));
        assert_eq!(of("a.txt", Some(Form::Csv)), Ok(Format::Csv));
        assert_eq!(of("-", None), Ok(Format::Csv));
        assert!(
            of("a.txt", None)
                .unwrap_err()
                .contains("say what it is with --from")
        );
    }
}
