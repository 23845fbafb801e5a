mod bad_files;
mod fixture;
mod reconciling;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::engine::kernels::Isa;
use crate::engine::{Engine, GraphBuilder, Kernel, OpError, Operand, Operator, Run};
use crate::metrics::{BuildInfo, ModelState};
use crate::model::{CONFIG_FILE, Model};
use crate::scheduler::SchedulerSettings;
use crate::tensor::Shape;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

fn scheduler() -> Arc<Scheduler> {
    Scheduler::start(SchedulerSettings {
        workers: 1,
        max_batch_rows: 8,
        max_batch_time: Duration::from_secs(3600),
        max_scratch_bytes: 64 << 20,
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
    ModelRepository::open(
        RepositorySettings::all_of(directory),
        &scheduler(),
        &metrics(),
    )
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
#[derive(Debug, PartialEq)]
struct Faulty;

impl Operator for Faulty {
    fn name(&self) -> &'static str {
        "Faulty"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        Ok(vec![inputs[0].shape.clone()])
    }

    fn prepare(&self, _inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        Box::new(Self)
    }
}

impl Kernel for Faulty {
    fn run(&self, _run: Run<'_>) {
        panic!("whatever comes");
    }
}

#[test]
fn a_version_whose_forward_pass_panics_is_refused_and_leaves_no_series() {
    let directory = samples().join("iris/1");
    let mut model = Model::load("iris", 1, &directory).unwrap();
    let mut graph = GraphBuilder::new();
    let x = graph.input(model.signature.inputs[0].clone());
    let y = graph.node("faulty", Faulty, &[x]).unwrap();
    graph.output("probabilities", y).unwrap();
    model.engine = Arc::new(Engine::compile(graph.build()));
    let metrics = metrics();
    let before = metrics.render().unwrap();
    let refusal = served::serve(model, directory, 0.0, &scheduler(), &metrics).unwrap_err();
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
fn the_only_model_can_be_given_a_name() {
    let named = |directory: &Path| RepositorySettings {
        name: Some("churn".parse().unwrap()),
        ..RepositorySettings::all_of(directory)
    };
    let open = |settings| ModelRepository::open(settings, &scheduler(), &metrics()).unwrap();
    // What platforms mount: the files themselves, next to directories that look like models.
    let root = tempfile::tempdir().unwrap();
    copy("iris/1", root.path());
    copy("iris/1", &root.path().join("1_Pooling"));
    let repository = open(named(root.path()));
    let served = repository.find("churn", Some("1")).unwrap();
    assert_eq!(served.model.name, "churn");
    assert_eq!(repository.index().len(), 1);

    let repository = open(named(&samples().join("digits")));
    assert_eq!(repository.find("churn", None).unwrap().model.version, 2);
    assert!(repository.find("digits", None).is_err());

    // A directory of models is not the directory of one model, and the reason says so.
    let index = open(named(&samples())).index();
    assert_eq!(index.len(), 1);
    assert!(
        index[0].reason.contains("it is a repository itself"),
        "{index:?}"
    );
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
