//! What comes, changes and goes while it is served.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::stage::{Stage, config, scale_of, weights, write_model};
use crate::metrics::ModelState;
use crate::model::repository::*;

use ModelState::{Loading, Ready, Unavailable, Unloading};

/// Someone follows the directory, who never finds that something is left alone or in vain. What the
/// tests ask for is done all the same.
fn followed(settings: &mut RepositorySettings) {
    let day = Duration::from_secs(24 * 60 * 60);
    settings.watch = Some(WatchSettings {
        poll_interval: None,
        settle: day,
        incomplete_timeout: day,
    });
}

#[test]
fn a_version_that_comes_answers_and_a_request_keeps_the_one_it_had() {
    let stage = Stage::of(&[("m/1", 2.0)]);
    let held = stage.repository.find("m", None).unwrap();
    stage.write("m/2", 3.0);
    assert_eq!(stage.answer("m"), (2, 3.0));
    assert_eq!((held.model.version, scale_of(&held)), (1, 2.0));
    assert_eq!(
        stage.states(),
        [("m".into(), 1, Ready), ("m".into(), 2, Ready)]
    );
    stage.write("n", 4.0);
    assert_eq!(stage.answer("n"), (1, 4.0));
    assert_eq!(stage.metric("safeserve_models{state=\"ready\"}"), 3.0);
}

#[test]
fn files_that_replace_others_are_one_new_arc() {
    let stage = Stage::of(&[("m/1", 2.0)]);
    let lines = stage.metrics.render().unwrap().lines().count();
    let held = stage.repository.find("m", None).unwrap();
    stage.put("m/1/config.json", &config(3.0));
    assert_eq!(stage.answer("m"), (1, 3.0));
    assert_eq!(scale_of(&held), 2.0);
    let fingerprint = |served: &Served| {
        format!(
            "safeserve_model_info{{fingerprint=\"{}\",model=\"m\",version=\"1\"}}",
            served.model.fingerprint
        )
    };
    let now = stage.repository.find("m", None).unwrap();
    assert_eq!(stage.metric(&fingerprint(&now)), 1.0);
    // The series go on under the same names, and stay when the last request of the old one ends.
    drop(held);
    stage.repository.rescan();
    assert_eq!(stage.metrics.render().unwrap().lines().count(), lines);
    assert_eq!(stage.metric(&fingerprint(&now)), 1.0);
}

#[test]
fn a_replacement_that_fails_leaves_the_old_one_with_the_reason() {
    let stage = Stage::of(&[("m/1", 2.0)]);
    stage.put("m/1/config.json", br#"{"model_type": "unheard-of"}"#);
    assert_eq!(stage.answer("m"), (1, 2.0));
    let (state, reason) = stage.entry("m", 1);
    assert_eq!(state, Ready);
    assert!(reason.starts_with("config.json: model_type: "), "{reason}");
    let refused = "safeserve_model_loads_total{result=\"refused\"}";
    assert_eq!(stage.metric(refused), 1.0);
    assert!(stage.has_series("m", 1));

    // With the old bytes back it is as before, and not loaded again.
    let before = stage.repository.find("m", None).unwrap();
    stage.put("m/1/config.json", &config(2.0));
    assert_eq!(stage.entry("m", 1), (Ready, String::new()));
    assert!(Arc::ptr_eq(
        &before,
        &stage.repository.find("m", None).unwrap()
    ));
    assert_eq!(
        stage.metric("safeserve_model_loads_total{result=\"unchanged\"}"),
        1.0
    );
    // A good one replaces it.
    stage.put("m/1/config.json", &config(5.0));
    assert_eq!(stage.answer("m"), (1, 5.0));
}

#[test]
fn a_touched_file_swaps_nothing() {
    let stage = Stage::of(&[("m/1", 2.0)]);
    let before = stage.repository.find("m", None).unwrap();
    let file = File::options()
        .write(true)
        .open(stage.path("m/1/config.json"));
    file.unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    stage.repository.rescan();
    let after = stage.repository.find("m", None).unwrap();
    assert!(Arc::ptr_eq(&before, &after));
}

#[test]
fn what_is_deleted_finishes_its_requests_and_the_next_older_answers() {
    let stage = Stage::of(&[("m/1", 2.0), ("m/2", 3.0)]);
    let held = stage.repository.find("m", None).unwrap();
    stage.remove("m/2");
    assert_eq!(stage.answer("m"), (1, 2.0));
    assert_eq!(
        stage.entry("m", 2),
        (Unloading, "its files are gone".into())
    );
    let refusal = stage.repository.find("m", Some("2")).unwrap_err();
    assert!(matches!(
        refusal,
        LookupError::NotReady {
            state: Unloading,
            ..
        }
    ));
    assert_eq!(stage.metric("safeserve_models{state=\"unloading\"}"), 1.0);
    assert_eq!(scale_of(&held), 3.0);
    assert!(stage.has_series("m", 2));

    drop(held);
    stage.repository.rescan();
    assert_eq!(stage.states(), [("m".into(), 1, Ready)]);
    assert_eq!(stage.metric("safeserve_models{state=\"unloading\"}"), 0.0);
    assert!(!stage.has_series("m", 2) && stage.has_series("m", 1));
}

#[test]
fn a_version_that_comes_back_while_it_unloads_has_its_series() {
    let stage = Stage::of(&[("m/1", 2.0), ("n", 1.0)]);
    let held = stage.repository.find("m", None).unwrap();
    stage.remove("m");
    assert_eq!(stage.entry("m", 1).0, Unloading);
    stage.write("m/1", 3.0);
    assert_eq!(stage.answer("m"), (1, 3.0));
    assert_eq!(scale_of(&held), 2.0);
    drop(held);
    stage.repository.rescan();
    assert_eq!(stage.answer("m"), (1, 3.0));
    assert!(stage.has_series("m", 1));
}

#[test]
fn a_model_whose_directory_is_gone_is_unknown() {
    let stage = Stage::of(&[("m/1", 2.0), ("n", 1.0)]);
    stage.remove("m");
    stage.repository.rescan();
    let refusal = stage.repository.find("m", None).unwrap_err();
    assert!(
        matches!(refusal, LookupError::UnknownModel { .. }),
        "{refusal}"
    );
    assert_eq!(stage.repository.versions("m"), None);
    assert!(!stage.has_series("m", 1));
}

#[test]
fn a_model_whose_versions_are_all_taken_away_is_unloaded() {
    let stage = Stage::with(&[("m/1", 2.0), ("m/2", 3.0), ("n", 1.0)], followed);
    stage.remove("m/2");
    stage.remove("m/1");
    assert!(stage.repository.find("m", None).is_err());
    assert!(!stage.has_series("m", 1) && !stage.has_series("m", 2));
    // What is left is the beginning of a copy, perhaps.
    stage.repository.rescan();
    assert_eq!(stage.entry("m", 1).0, Loading);
    // The files of a model without versions, one after the other.
    fs::remove_file(stage.path("n/config.json")).unwrap();
    stage.repository.rescan();
    assert!(stage.repository.find("n", None).is_err());
}

#[test]
fn a_configuration_beside_versions_unloads_none_of_them() {
    let stage = Stage::of(&[("m/1", 2.0), ("m/2", 3.0)]);
    stage.put("m/config.json", &config(4.0));
    for version in [1, 2] {
        let (state, reason) = stage.entry("m", version);
        assert_eq!(state, Ready);
        assert!(reason.contains("move the files into one"), "{reason}");
    }
    assert_eq!(stage.answer("m"), (2, 3.0));
    fs::remove_file(stage.path("m/config.json")).unwrap();
    stage.repository.rescan();
    assert_eq!(stage.entry("m", 1), (Ready, String::new()));
}

#[test]
fn a_model_that_is_a_link_in_a_circle_is_gone_until_it_is_back() {
    let stage = Stage::of(&[("m/1", 2.0), ("m/2", 3.0), ("n", 1.0)]);
    fs::rename(stage.path("m"), stage.path(".m")).unwrap();
    symlink("m", stage.path("m")).unwrap();
    stage.repository.rescan();
    assert!(stage.repository.find("m", None).is_err());
    fs::remove_file(stage.path("m")).unwrap();
    fs::rename(stage.path(".m"), stage.path("m")).unwrap();
    stage.repository.rescan();
    assert_eq!(stage.answer("m"), (2, 3.0));
}

#[test]
fn a_repository_that_is_lost_goes_on_serving() {
    let stage = Stage::of(&[("m/1", 2.0), ("n", 3.0)]);
    let root = stage.root.path();
    let away = root.with_extension("away");
    fs::rename(root, &away).unwrap();
    stage.repository.rescan();
    assert_eq!(stage.answer("m"), (1, 2.0));
    // What is left after an unmount.
    fs::create_dir(root).unwrap();
    stage.repository.rescan();
    assert_eq!(stage.answer("n"), (1, 3.0));
    fs::remove_dir(root).unwrap();
    fs::rename(&away, root).unwrap();
    let before = stage.repository.find("m", None).unwrap();
    stage.repository.rescan();
    assert!(Arc::ptr_eq(
        &before,
        &stage.repository.find("m", None).unwrap()
    ));
}

#[test]
fn the_directory_of_one_model_that_is_emptied_goes_on_serving() {
    let root = tempfile::tempdir().unwrap();
    let (flat, versions) = (root.path().join("flat"), root.path().join("versions"));
    write_model(&flat, &config(2.0), &weights());
    write_model(&versions.join("7"), &config(3.0), &weights());
    for (directory, name, version) in [(&flat, Some("given"), 1), (&versions, None, 7)] {
        let settings = RepositorySettings {
            name: name.map(|name| name.parse().unwrap()),
            ..RepositorySettings::all_of(directory)
        };
        let repository = ModelRepository::open(settings, &super::scheduler(), &super::metrics());
        let (repository, name) = (repository.unwrap(), name.unwrap_or("versions"));
        let before = repository.find(name, None).unwrap();
        let away = directory.with_extension("away");
        fs::rename(directory, &away).unwrap();
        fs::create_dir(directory).unwrap();
        repository.rescan();
        assert_eq!(repository.find(name, None).unwrap().model.version, version);
        fs::remove_dir(directory).unwrap();
        fs::rename(&away, directory).unwrap();
        repository.rescan();
        assert!(Arc::ptr_eq(&before, &repository.find(name, None).unwrap()));
    }
}

#[test]
fn a_link_that_is_swapped_is_a_new_version_as_kubernetes_publishes_it() {
    let stage = Stage::of(&[("other", 1.0)]);
    for (data, scale) in [("..a", 2.0), ("..b", 3.0)] {
        write_model(&stage.path(data).join("m/1"), &config(scale), &weights());
    }
    symlink("..a", stage.path("..data")).unwrap();
    symlink("..data/m", stage.path("m")).unwrap();
    stage.repository.rescan();
    assert_eq!(stage.answer("m"), (1, 2.0));
    symlink("..b", stage.path("..data_tmp")).unwrap();
    fs::rename(stage.path("..data_tmp"), stage.path("..data")).unwrap();
    stage.repository.rescan();
    assert_eq!(stage.answer("m"), (1, 3.0));
}

#[test]
fn a_directory_that_takes_anothers_place_is_a_new_version() {
    let stage = Stage::of(&[("m/1", 2.0)]);
    write_model(&stage.path(".next"), &config(3.0), &weights());
    fs::rename(stage.path("m/1"), stage.path(".last")).unwrap();
    fs::rename(stage.path(".next"), stage.path("m/1")).unwrap();
    stage.repository.rescan();
    assert_eq!(stage.answer("m"), (1, 3.0));
}

#[test]
fn a_copy_that_is_not_complete_is_waited_for() {
    let stage = Stage::with(&[("m/1", 2.0)], followed);
    fs::create_dir(stage.path("n")).unwrap();
    stage.repository.rescan();
    let (state, reason) = stage.entry("n", 1);
    assert_eq!(state, Loading);
    assert!(
        reason.starts_with("waiting for its files to be complete: "),
        "{reason}"
    );
    assert!(reason.contains("holds neither config.json nor"), "{reason}");
    assert_eq!(stage.metric("safeserve_models{state=\"loading\"}"), 1.0);

    fs::write(stage.path("n/config.json"), &config(3.0)[..20]).unwrap();
    stage.repository.rescan();
    let (state, reason) = stage.entry("n", 1);
    assert!(
        state == Loading && reason.contains("not valid JSON"),
        "{reason}"
    );
    fs::write(stage.path("n/config.json"), config(3.0)).unwrap();
    stage.repository.rescan();
    let (state, reason) = stage.entry("n", 1);
    assert!(
        state == Loading && reason.contains("model.safetensors: No such file"),
        "{reason}"
    );
    let refusal = stage.repository.find("n", None).unwrap_err();
    assert!(matches!(
        refusal,
        LookupError::NotReady { state: Loading, .. }
    ));

    let weights = weights();
    for length in 0..weights.len() {
        fs::write(stage.path("n/model.safetensors"), &weights[..length]).unwrap();
        stage.repository.rescan();
        assert_eq!(stage.entry("n", 1).0, Loading, "{length} bytes");
        assert_eq!(stage.answer("m"), (1, 2.0));
    }
    fs::write(stage.path("n/model.safetensors"), &weights).unwrap();
    stage.repository.rescan();
    assert_eq!(stage.answer("n"), (1, 3.0));
    assert_eq!(stage.entry("n", 1), (Ready, String::new()));
}

#[test]
fn a_copy_over_what_serves_is_waited_for_while_it_serves() {
    let stage = Stage::with(&[("m/1", 2.0)], followed);
    // In place, as `cp` writes.
    fs::write(stage.path("m/1/model.safetensors"), &weights()[..60]).unwrap();
    stage.repository.rescan();
    assert_eq!(stage.answer("m"), (1, 2.0));
    let (state, reason) = stage.entry("m", 1);
    assert_eq!(state, Ready);
    assert!(reason.starts_with("waiting for its files to be complete: model.safetensors: "));
    stage.write("m/1", 3.0);
    assert_eq!(stage.answer("m"), (1, 3.0));
    assert_eq!(stage.entry("m", 1), (Ready, String::new()));
}

#[test]
fn where_nobody_looks_again_nothing_is_waited_for() {
    let stage = Stage::of(&[("m/1", 2.0)]);
    fs::create_dir(stage.path("m/2")).unwrap();
    stage.repository.rescan();
    let (state, reason) = stage.entry("m", 2);
    assert_eq!(state, Unavailable);
    assert!(reason.starts_with("config.json: No such file"), "{reason}");
}

#[test]
fn a_model_is_unloaded_and_loaded_by_its_name() {
    let stage = Stage::of(&[("m/1", 2.0), ("m/2", 3.0), ("n", 4.0)]);
    let held = stage.repository.find("m", None).unwrap();
    let entries = stage.repository.unload("m").unwrap();
    let states: Vec<ModelState> = entries.iter().map(|entry| entry.state).collect();
    // No one held the first one.
    assert_eq!(states, [Unavailable, Unloading]);
    assert!(stage.repository.find("m", None).is_err());
    drop(held);
    // Looking does not bring it back, nor do new files.
    stage.write("m/3", 5.0);
    let reason = "it was unloaded on request";
    for version in 1..=3 {
        assert_eq!(stage.entry("m", version), (Unavailable, reason.into()));
        assert!(!stage.has_series("m", version));
    }
    assert_eq!(stage.answer("n"), (1, 4.0));

    let entries = stage.repository.load("m").unwrap();
    assert!(
        entries.iter().all(|entry| entry.state == Ready),
        "{entries:?}"
    );
    assert_eq!(stage.answer("m"), (3, 5.0));
    assert_eq!(stage.repository.load("none"), None);
    assert_eq!(stage.repository.unload("none"), None);
}

#[test]
fn a_load_on_request_finds_what_came_and_tries_again_what_failed() {
    let stage = Stage::of(&[("m/1", 2.0)]);
    write_model(&stage.path("n"), &config(3.0), &weights());
    let entries = stage.repository.load("n").unwrap();
    assert_eq!(entries[0].state, Ready);
    stage.put("m/2", b"a file is no version");
    stage.put("m/1/config.json", b"[]");
    let tried = || stage.metric("safeserve_model_loads_total{result=\"incomplete\"}");
    let before = tried();
    stage.repository.load("m");
    assert_eq!(tried(), before + 1.0);
}

#[test]
fn of_the_newest_only_the_old_ones_leave_when_a_new_one_serves() {
    let stage = Stage::with(
        &[("m/1", 2.0), ("m/2", 3.0), ("n/1", 1.0), ("n/2", 1.0)],
        |settings| {
            settings.versions = "latest, n=all".parse().unwrap();
        },
    );
    assert_eq!(
        stage.states(),
        [
            ("m".into(), 2, Ready),
            ("n".into(), 1, Ready),
            ("n".into(), 2, Ready)
        ]
    );
    fs::create_dir(stage.path("m/3")).unwrap();
    stage.put("m/3/config.json", b"{}");
    assert_eq!(stage.answer("m"), (2, 3.0));
    assert_eq!(stage.entry("m", 3).0, Unavailable);
    stage.write("m/3", 4.0);
    assert_eq!(stage.answer("m"), (3, 4.0));
    assert_eq!(stage.repository.versions("m").unwrap().len(), 1);
    assert!(!stage.has_series("m", 2));
    // The newest deleted: the next one is loaded again.
    stage.remove("m/3");
    assert_eq!(stage.answer("m"), (2, 3.0));
}

#[test]
fn no_more_versions_and_models_than_allowed_are_loaded() {
    let stage = Stage::with(&[("a/1", 1.0), ("a/2", 2.0), ("a/3", 3.0)], |settings| {
        settings.max_versions = 2;
        settings.max_models = 2;
    });
    let (state, reason) = stage.entry("a", 1);
    assert_eq!(state, Unavailable);
    assert!(
        reason.starts_with("models.max_versions: 2 newer"),
        "{reason}"
    );
    stage.write("z", 4.0);
    // Those that are there stay, whatever the names of those that come.
    stage.write("b", 5.0);
    assert_eq!(stage.answer("z"), (1, 4.0));
    let (state, reason) = stage.entry("b", 1);
    assert_eq!(state, Unavailable);
    assert!(reason.starts_with("models.max_models: "), "{reason}");
    stage.remove("z");
    stage.repository.rescan();
    assert_eq!(stage.answer("b"), (1, 5.0));
}

#[test]
fn weights_that_do_not_fit_are_refused_before_they_are_read() {
    let bytes = weights().len() as u64;
    let stage = Stage::with(&[("m/1", 2.0)], |settings| {
        settings.max_weight_bytes = bytes
    });
    // The version that serves takes some of the memory.
    stage.write("n", 3.0);
    let (state, reason) = stage.entry("n", 1);
    assert_eq!(state, Unavailable);
    assert!(reason.contains("models.max_weight_bytes"), "{reason}");
    // A replacement takes memory in addition to the version that it replaces.
    stage.put("m/1/config.json", &config(4.0));
    assert_eq!(stage.answer("m"), (1, 2.0));
    assert_eq!(stage.entry("m", 1).0, Ready);
    assert!(stage.entry("m", 1).1.contains("models.max_weight_bytes"));
    // With room it comes.
    stage.remove("m");
    assert_eq!(stage.answer("n"), (1, 3.0));
}

#[test]
fn a_new_version_in_the_directory_of_one_model_is_one_of_its_versions() {
    let root = tempfile::tempdir().unwrap();
    write_model(&root.path().join("m/1"), &config(2.0), &weights());
    let settings = RepositorySettings::all_of(&root.path().join("m"));
    let repository = ModelRepository::open(settings, &super::scheduler(), &super::metrics());
    let repository = repository.unwrap();
    // Half a copy looks like no version, and the directory like one of models.
    fs::create_dir(root.path().join("m/2")).unwrap();
    repository.rescan();
    let names: BTreeSet<String> = repository.index().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["m".to_owned()].into());
    write_model(&root.path().join("m/2"), &config(3.0), &weights());
    repository.rescan();
    assert_eq!(repository.find("m", None).unwrap().model.version, 2);
}
