//! The model repository: which versions of which models there are, and the state of each.
//!
//! ```text
//! models/<name>/<version>/{config.json, model.safetensors}    any number of versions
//! models/<name>/{config.json, model.safetensors}              the same as version 1
//! ```
//!
//! The directory of one model, with or without versions, is a repository too.

mod discovery;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;

use self::discovery::{Findings, Found, canonical};
use super::{CONFIG_FILE, Model};
use crate::metrics::{Metrics, ModelMetrics, ModelState};
use crate::request::InferError;
use crate::scheduler::{Lane, LaneSettings, Scheduler, WarmUp};

/// A model version that answers requests. A request holds one from the check of its inputs to its
/// answer, so that no request is answered by two versions.
#[derive(Debug)]
pub struct Served {
    /// The model.
    pub model: Model,
    /// Its queue in the scheduler.
    pub lane: Lane,
    /// Its series on the metrics page.
    pub metrics: ModelMetrics,
    /// How it was loaded.
    pub loaded: Loaded,
    /// The version's number as text, for every answer that names it.
    pub version: Bytes,
    /// The model's fingerprint, likewise.
    pub fingerprint: Bytes,
}

/// How a model version was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Where its files lie.
    pub directory: PathBuf,
    /// When the load ended.
    pub at: SystemTime,
    /// How long it took, in seconds, without the warm-up.
    pub seconds: f64,
    /// What its owner should know although it serves.
    pub warning: Option<String>,
}

/// All models of one directory, as they were when the server started. Reading it takes no lock.
#[derive(Debug)]
pub struct ModelRepository {
    models: ArcSwap<Models>,
    ignored: Vec<String>,
}

type Models = BTreeMap<String, BTreeMap<u64, State>>;

/// What became of a version's load.
#[derive(Clone, Debug)]
enum State {
    Ready(Arc<Served>),
    Unavailable(Arc<str>),
}

impl State {
    fn kind(&self) -> ModelState {
        match self {
            Self::Ready(_) => ModelState::Ready,
            Self::Unavailable(_) => ModelState::Unavailable,
        }
    }
}

/// One version of one model, as the repository's index shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The model's name.
    pub name: String,
    /// The version.
    pub version: u64,
    /// Where it stands.
    pub state: ModelState,
    /// Why it is not ready; empty if it is.
    pub reason: String,
}

impl ModelRepository {
    /// Loads every version of every model below `directory` and gives each a lane.
    ///
    /// A version that cannot be loaded is unavailable with its reason; the others serve.
    ///
    /// # Errors
    /// [`RepositoryError`] if the directory cannot be read or holds no model.
    pub fn load(
        directory: &Path,
        scheduler: &Arc<Scheduler>,
        metrics: &Metrics,
    ) -> Result<Self, RepositoryError> {
        let mut models = Models::new();
        let found = discovery::find(directory).map_err(|error| RepositoryError::Unreadable {
            directory: directory.to_owned(),
            error,
        })?;
        let Findings { versions, ignored } = found;
        for Found {
            name,
            version,
            directory,
        } in versions
        {
            let state = directory
                .and_then(|directory| load(&name, version, directory, scheduler, metrics))
                .map_or_else(
                    |reason| State::Unavailable(reason.into()),
                    |served| State::Ready(Arc::new(served)),
                );
            models.entry(name).or_default().insert(version, state);
        }
        if models.is_empty() {
            return Err(RepositoryError::Empty {
                directory: directory.to_owned(),
            });
        }
        for &kind in ModelState::ALL {
            let states = models.values().flat_map(BTreeMap::values);
            metrics.models_in_state(kind, states.filter(|state| state.kind() == kind).count());
        }
        Ok(Self {
            models: ArcSwap::from_pointee(models),
            ignored,
        })
    }

    /// Directories that look like models and cannot be served under their names, with the reason.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// The version that answers a request: the one of that number, or the newest that is ready.
    ///
    /// # Errors
    /// [`LookupError`] if there is none.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<Served>, LookupError> {
        let models = self.models.load();
        let Some(versions) = models.get(name) else {
            return Err(LookupError::UnknownModel {
                model: shown(name),
                known: models.keys().cloned().collect(),
            });
        };
        let Some(version) = version else {
            let ready = versions.values().rev().find_map(|state| match state {
                State::Ready(served) => Some(Arc::clone(served)),
                State::Unavailable(_) => None,
            });
            return ready.ok_or_else(|| {
                let (version, state) = versions.last_key_value().expect("a model has a version");
                not_ready(name, *version, state)
            });
        };
        let found = canonical(version).and_then(|version| versions.get_key_value(&version));
        match found {
            Some((_, State::Ready(served))) => Ok(Arc::clone(served)),
            Some((version, state)) => Err(not_ready(name, *version, state)),
            None => Err(LookupError::UnknownVersion {
                model: name.to_owned(),
                version: shown(version),
                known: versions.keys().copied().collect(),
            }),
        }
    }

    /// Every version of every model, by name and version.
    #[must_use]
    pub fn index(&self) -> Vec<IndexEntry> {
        let models = self.models.load();
        models
            .iter()
            .flat_map(|(name, versions)| entries(name, versions))
            .collect()
    }

    /// Every version of one model, oldest first; `None` if there is no such model.
    #[must_use]
    pub fn versions(&self, name: &str) -> Option<Vec<IndexEntry>> {
        let models = self.models.load();
        let (name, versions) = models.get_key_value(name)?;
        Some(entries(name, versions).collect())
    }

    /// The versions that are ready, by name and version.
    #[must_use]
    pub fn ready(&self) -> Vec<Arc<Served>> {
        let models = self.models.load();
        let states = models.values().flat_map(BTreeMap::values);
        states
            .filter_map(|state| match state {
                State::Ready(served) => Some(Arc::clone(served)),
                State::Unavailable(_) => None,
            })
            .collect()
    }
}

fn entries<'a>(
    name: &'a str,
    versions: &'a BTreeMap<u64, State>,
) -> impl Iterator<Item = IndexEntry> + 'a {
    versions.iter().map(move |(version, state)| IndexEntry {
        name: name.to_owned(),
        version: *version,
        state: state.kind(),
        reason: match state {
            State::Ready(_) => String::new(),
            State::Unavailable(reason) => reason.to_string(),
        },
    })
}

fn not_ready(name: &str, version: u64, state: &State) -> LookupError {
    LookupError::NotReady {
        model: name.to_owned(),
        version,
        state: state.kind(),
        reason: match state {
            State::Ready(_) => String::new(),
            State::Unavailable(reason) => reason.to_string(),
        },
    }
}

/// Loads one version and opens its lane; the reason if that fails.
fn load(
    name: &str,
    version: u64,
    directory: PathBuf,
    scheduler: &Arc<Scheduler>,
    metrics: &Metrics,
) -> Result<Served, String> {
    let started = Instant::now();
    let model = Model::load(name, version, &directory).map_err(|error| error.to_string())?;
    let seconds = started.elapsed().as_secs_f64();
    serve(model, directory, seconds, scheduler, metrics)
}

/// Opens the lane of a loaded model and tries it; the reason if that fails.
fn serve(
    model: Model,
    directory: PathBuf,
    seconds: f64,
    scheduler: &Arc<Scheduler>,
    metrics: &Metrics,
) -> Result<Served, String> {
    let series = metrics.model(&model.name, model.version);
    let settings = LaneSettings {
        name: model.name.clone(),
        allow_non_finite: model.signature.allow_non_finite,
    };
    let lane = scheduler.lane(Arc::clone(&model.engine), series.clone(), settings);
    let WarmUp { non_finite_output } = lane.warm_up().map_err(|error: InferError| {
        // The metrics page shows what serves, and this does not.
        metrics.forget(&model.name, model.version);
        format!("the forward pass fails on a row of zeros: {error}")
    })?;
    series.loaded(&model.fingerprint, seconds, model.engine.weight_bytes());
    let warning = non_finite_output.map(|output| {
        format!(
            "output {:?} is not a finite number for a row of zeros, and such an answer is refused \
             with 422; try it with a row of your own, or set \"allow_non_finite\" in \
             {CONFIG_FILE}",
            model.engine.outputs()[output].name
        )
    });
    Ok(Served {
        version: model.version.to_string().into(),
        fingerprint: model.fingerprint.clone().into(),
        model,
        lane,
        metrics: series,
        loaded: Loaded {
            directory,
            at: SystemTime::now(),
            seconds,
            warning,
        },
    })
}

/// The beginning of what a client sent, for an error message.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Why no model version answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// No model has this name.
    UnknownModel {
        /// The name that was asked for, cut if it is long.
        model: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The model has no such version.
    UnknownVersion {
        /// The model's name.
        model: String,
        /// The version that was asked for, cut if it is long.
        version: String,
        /// The versions that there are.
        known: Vec<u64>,
    },
    /// The version does not serve.
    NotReady {
        /// The model's name.
        model: String,
        /// The version.
        version: u64,
        /// Where it stands.
        state: ModelState,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Names shown before the rest is only counted.
        const SHOWN: usize = 20;
        let list = |f: &mut fmt::Formatter<'_>, names: &[String]| {
            f.write_str(&names[..names.len().min(SHOWN)].join(", "))?;
            match names.len().saturating_sub(SHOWN) {
                0 => Ok(()),
                more => write!(f, " and {more} more"),
            }
        };
        match self {
            // What clients sent is quoted with its control characters escaped.
            Self::UnknownModel { model, known } => {
                write!(f, "there is no model {model:?}; this server has ")?;
                list(f, known)
            }
            Self::UnknownVersion {
                model,
                version,
                known,
            } => {
                let known: Vec<String> = known.iter().map(u64::to_string).collect();
                write!(f, "model {model:?} has no version {version:?}; it has ")?;
                list(f, &known)
            }
            Self::NotReady {
                model,
                version,
                state,
                reason,
            } => write!(
                f,
                "version {version} of model {model:?} is {}: {reason}",
                state.as_str()
            ),
        }
    }
}

impl std::error::Error for LookupError {}

/// Why a repository cannot be served at all.
#[derive(Debug)]
pub enum RepositoryError {
    /// The directory cannot be listed.
    Unreadable {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The directory holds nothing that looks like a model.
    Empty {
        /// The directory.
        directory: PathBuf,
    },
}

impl fmt::Display for RepositoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { directory, error } => write!(
                f,
                "cannot read the model repository {}: {error}; name another with --models",
                directory.display()
            ),
            Self::Empty { directory } => write!(
                f,
                "the model repository {} holds no model; expected \
                 <name>/{CONFIG_FILE} and <name>/model.safetensors, or the same in \
                 <name>/<version>/",
                directory.display()
            ),
        }
    }
}

impl std::error::Error for RepositoryError {}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;
    use crate::engine::kernels::Isa;
    use crate::engine::{Engine, GraphBuilder, Inputs, Kernel, OpError, Operand, Operator};
    use crate::metrics::BuildInfo;
    use crate::scheduler::SchedulerSettings;

    fn samples() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
    }

    fn scheduler() -> Arc<Scheduler> {
        Scheduler::start(SchedulerSettings {
            workers: 1,
            max_batch_rows: 8,
            max_batch_delay: Duration::ZERO,
            max_queued_rows: 64,
            inline_cost: Duration::ZERO,
        })
        .unwrap()
    }

    fn metrics() -> Metrics {
        Metrics::new(BuildInfo {
            version: "0",
            profile: "debug",
            platform: "test",
        })
    }

    fn load(directory: &Path) -> Result<ModelRepository, RepositoryError> {
        ModelRepository::load(directory, &scheduler(), &metrics())
    }

    /// Copies a sample's configuration and weights.
    fn copy(sample: &str, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for file in [CONFIG_FILE, "model.safetensors"] {
            fs::copy(samples().join(sample).join(file), to.join(file)).unwrap();
        }
    }

    #[test]
    fn the_samples_are_all_ready_and_the_newest_version_answers() {
        let repository = load(&samples()).unwrap();
        let index = repository.index();
        assert_eq!(index.len(), 6);
        assert!(index.iter().all(|entry| entry.state == ModelState::Ready));
        assert_eq!(repository.find("digits", None).unwrap().model.version, 2);
        assert_eq!(
            repository.find("digits", Some("1")).unwrap().model.version,
            1
        );
        assert_eq!(
            repository.find("hello-keras", None).unwrap().model.version,
            1
        );
        assert_eq!(repository.versions("digits").unwrap().len(), 2);
        assert_eq!(repository.versions("none"), None);
    }

    #[test]
    fn only_a_version_as_it_is_written_is_found() {
        let repository = load(&samples()).unwrap();
        let odd = [
            "0",
            "01",
            "+1",
            "1e0",
            "-1",
            "",
            " 1",
            "1.0",
            "x",
            "18446744073709551616",
        ];
        for version in odd.into_iter().chain(["3"]) {
            let refusal = repository.find("digits", Some(version)).unwrap_err();
            assert_eq!(
                refusal,
                LookupError::UnknownVersion {
                    model: "digits".into(),
                    version: version.into(),
                    known: vec![1, 2],
                },
                "{version:?}"
            );
        }
        let refusal = repository.find("../digits", None).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "there is no model \"../digits\"; this server has breast-cancer, diabetes, digits, \
             hello-keras, iris"
        );
    }

    #[test]
    fn a_bad_version_has_its_reason_and_the_others_serve() {
        let root = tempfile::tempdir().unwrap();
        copy("digits/1", &root.path().join("m/1"));
        copy("digits/1", &root.path().join("m/2"));
        fs::write(root.path().join("m/2/model.safetensors"), "half").unwrap();
        fs::create_dir(root.path().join("empty")).unwrap();
        copy("digits/1", &root.path().join("both"));
        copy("digits/1", &root.path().join("both/1"));
        let repository = load(root.path()).unwrap();
        let index: Vec<(String, u64, ModelState)> = repository
            .index()
            .into_iter()
            .map(|entry| (entry.name, entry.version, entry.state))
            .collect();
        assert_eq!(
            index,
            [
                ("both".into(), 1, ModelState::Unavailable),
                ("empty".into(), 1, ModelState::Unavailable),
                ("m".into(), 1, ModelState::Ready),
                ("m".into(), 2, ModelState::Unavailable),
            ]
        );
        assert_eq!(repository.find("m", None).unwrap().model.version, 1);
        let refusal = repository.find("m", Some("2")).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "version 2 of model \"m\" is unavailable: model.safetensors: 4 bytes are too few for a \
             safetensors file"
        );
        let refusal = repository.find("both", None).unwrap_err().to_string();
        assert!(refusal.contains("move the files into one"), "{refusal}");
    }

    /// An operator whose kernel panics, as only a fault of the server would.
    #[derive(Debug)]
    struct Faulty;

    impl Operator for Faulty {
        fn name(&self) -> &'static str {
            "Faulty"
        }

        fn infer_shape(&self, inputs: &[Operand]) -> Result<Vec<usize>, OpError> {
            Ok(inputs[0].shape.clone())
        }

        fn prepare(&self, _inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
            Box::new(Self)
        }
    }

    impl Kernel for Faulty {
        fn run(&self, _rows: usize, _inputs: Inputs<'_>, _output: &mut [f32]) {
            panic!("whatever comes");
        }

        fn flops_per_row(&self) -> u64 {
            0
        }
    }

    #[test]
    fn a_version_whose_forward_pass_panics_is_refused_and_leaves_no_series() {
        let directory = samples().join("iris/1");
        let mut model = Model::load("iris", 1, &directory).unwrap();
        let mut graph = GraphBuilder::new();
        let x = graph.input(model.signature.inputs[0].clone());
        let y = graph.node("faulty", Faulty, &[x]).unwrap();
        graph.output("probabilities", y);
        model.engine = Arc::new(Engine::compile(graph.build()));
        let metrics = metrics();
        let before = metrics.render().unwrap();
        let refusal = serve(model, directory, 0.0, &scheduler(), &metrics).unwrap_err();
        assert!(
            refusal.starts_with("the forward pass fails on a row of zeros: "),
            "{refusal}"
        );
        let page = metrics.render().unwrap();
        assert!(!page.contains(r#"model="iris""#), "{page}");
        // The families are there all the same.
        assert_eq!(page.lines().count(), before.lines().count());
    }

    #[test]
    fn a_version_whose_answer_to_zeros_is_not_finite_serves_with_a_warning() {
        let layers = |keys: &str| {
            format!(
                r#"{{"model_type": "sequential", {keys} "inputs": [{{"name": "x", "shape": [1]}}],
                    "layers": [{{"type": "rescaling", "offset": 3e38}},
                               {{"type": "rescaling", "scale": 10}}]}}"#
            )
        };
        let root = tempfile::tempdir().unwrap();
        for (name, keys) in [("infinite", ""), ("meant", r#""allow_non_finite": true,"#)] {
            fs::create_dir(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join(CONFIG_FILE), layers(keys)).unwrap();
            // A file without tensors: the length of its header, and the header.
            let empty = [&2_u64.to_le_bytes()[..], b"{}"].concat();
            fs::write(root.path().join(name).join("model.safetensors"), empty).unwrap();
        }
        copy("iris/1", &root.path().join("sound"));
        let repository = load(root.path()).unwrap();
        let warning = |name| repository.find(name, None).unwrap().loaded.warning.clone();
        assert_eq!(
            warning("infinite").unwrap(),
            "output \"output\" is not a finite number for a row of zeros, and such an answer is \
             refused with 422; try it with a row of your own, or set \"allow_non_finite\" in \
             config.json"
        );
        assert_eq!(warning("meant"), None);
        assert_eq!(warning("sound"), None);
    }

    #[test]
    fn one_model_may_be_the_whole_repository() {
        let root = tempfile::tempdir().unwrap();
        copy("iris/1", &root.path().join("flowers"));
        let repository = load(&root.path().join("flowers")).unwrap();
        assert_eq!(
            repository.find("flowers", Some("1")).unwrap().model.name,
            "flowers"
        );
    }

    #[test]
    fn the_versions_of_one_model_may_be_the_whole_repository() {
        let repository = load(&samples().join("digits")).unwrap();
        assert_eq!(repository.find("digits", None).unwrap().model.version, 2);
        assert_eq!(repository.index().len(), 2);
    }

    #[test]
    fn a_stray_pair_in_the_root_hides_no_model() {
        let root = tempfile::tempdir().unwrap();
        copy("iris/1", root.path());
        copy("iris/1", &root.path().join("flowers/1"));
        copy("iris/1", &root.path().join("flowers/v2"));
        copy("iris/1", &root.path().join("two words"));
        let repository = load(root.path()).unwrap();
        let states: Vec<ModelState> = repository.index().iter().map(|e| e.state).collect();
        assert_eq!(states.len(), 2);
        assert!(states.contains(&ModelState::Unavailable));
        assert!(repository.find("flowers", None).is_ok());
        let ignored = repository.ignored().join("; ");
        assert!(ignored.contains("v2: not a version"), "{ignored}");
        assert!(
            ignored.contains("two words: not a model's name"),
            "{ignored}"
        );
    }

    #[test]
    fn linked_directories_count_and_hidden_or_odd_names_do_not() {
        let root = tempfile::tempdir().unwrap();
        copy("iris/1", &root.path().join(".hidden"));
        copy("iris/1", &root.path().join("_private"));
        copy("iris/1", &root.path().join("two words"));
        symlink(root.path().join(".hidden"), root.path().join("linked")).unwrap();
        fs::write(root.path().join("README.md"), "not a model").unwrap();
        let repository = load(root.path()).unwrap();
        let names: Vec<String> = repository
            .index()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(names, ["linked"]);
    }

    #[test]
    fn a_directory_without_models_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let refusal = load(root.path()).unwrap_err().to_string();
        assert!(refusal.contains("holds no model"), "{refusal}");
        let refusal = load(&root.path().join("absent")).unwrap_err().to_string();
        assert!(
            refusal.contains("cannot read the model repository"),
            "{refusal}"
        );
    }
}
