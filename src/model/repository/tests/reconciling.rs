//! Models that are added, changed and removed while they are served.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::fixture::{Fixture, config, scale_of, weights, write_model};
use crate::metrics::ModelState;
use crate::model::repository::*;

use ModelState::{Loading, Ready, Unavailable, Unloading};

/// Settings under which a watched directory never settles and no wait ends, so that only the tests'
/// own requests have an effect.
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
    let fixture = Fixture::of(&[("m/1", 2.0)]);
    let held = fixture.repository.find("m", None).unwrap();
    fixture.write("m/2", 3.0);
    assert_eq!(fixture.answer("m"), (2, 3.0));
    assert_eq!((held.model.version, scale_of(&held)), (1, 2.0));
    assert_eq!(
        fixture.states(),
        [("m".into(), 1, Ready), ("m".into(), 2, Ready)]
    );
    fixture.write("n", 4.0);
    assert_eq!(fixture.answer("n"), (1, 4.0));
    assert_eq!(fixture.metric("safeserve_models{state=\"ready\"}"), 3.0);
}

#[test]
fn files_that_replace_others_are_one_new_arc() {
    let fixture = Fixture::of(&[("m/1", 2.0)]);
    let lines = fixture.metrics.render().unwrap().lines().count();
    let held = fixture.repository.find("m", None).unwrap();
    fixture.put("m/1/config.json", &config(3.0));
    assert_eq!(fixture.answer("m"), (1, 3.0));
    assert_eq!(scale_of(&held), 2.0);
    let fingerprint = |served: &Served| {
        format!(
            "safeserve_model_info{{fingerprint=\"{}\",model=\"m\",version=\"1\"}}",
            served.model.fingerprint
        )
    };
    let now = fixture.repository.find("m", None).unwrap();
    assert_eq!(fixture.metric(&fingerprint(&now)), 1.0);
    // The series go on under the same names, and stay when the last request of the old one ends.
    drop(held);
    fixture.repository.rescan();
    assert_eq!(fixture.metrics.render().unwrap().lines().count(), lines);
    assert_eq!(fixture.metric(&fingerprint(&now)), 1.0);
}

#[test]
fn a_replacement_that_fails_leaves_the_old_one_with_the_reason() {
    let fixture = Fixture::of(&[("m/1", 2.0)]);
    fixture.put("m/1/config.json", br#"{"model_type": "unheard-of"}"#);
    assert_eq!(fixture.answer("m"), (1, 2.0));
    let (state, reason) = fixture.entry("m", 1);
    assert_eq!(state, Ready);
    assert!(reason.starts_with("config.json: model_type: "), "{reason}");
    let refused = "safeserve_model_loads_total{result=\"refused\"}";
    assert_eq!(fixture.metric(refused), 1.0);
    assert!(fixture.has_series("m", 1));

    // With the old bytes back it is as before, and not loaded again.
    let before = fixture.repository.find("m", None).unwrap();
    fixture.put("m/1/config.json", &config(2.0));
    assert_eq!(fixture.entry("m", 1), (Ready, String::new()));
    assert!(Arc::ptr_eq(
        &before,
        &fixture.repository.find("m", None).unwrap()
    ));
    assert_eq!(
        fixture.metric("safeserve_model_loads_total{result=\"unchanged\"}"),
        1.0
    );
    // A good one replaces it.
    fixture.put("m/1/config.json", &config(5.0));
    assert_eq!(fixture.answer("m"), (1, 5.0));
}

#[test]
fn a_touched_file_swaps_nothing() {
    let fixture = Fixture::of(&[("m/1", 2.0)]);
    let before = fixture.repository.find("m", None).unwrap();
    let file = File::options()
        .write(true)
        .open(fixture.path("m/1/config.json"));
    file.unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    fixture.repository.rescan();
    let after = fixture.repository.find("m", None).unwrap();
    assert!(Arc::ptr_eq(&before, &after));
}

#[test]
fn what_is_deleted_finishes_its_requests_and_the_next_older_answers() {
    let fixture = Fixture::of(&[("m/1", 2.0), ("m/2", 3.0)]);
    let held = fixture.repository.find("m", None).unwrap();
    fixture.remove("m/2");
    assert_eq!(fixture.answer("m"), (1, 2.0));
    assert_eq!(
        fixture.entry("m", 2),
        (Unloading, "its files are gone".into())
    );
    let refusal = fixture.repository.find("m", Some("2")).unwrap_err();
    assert!(matches!(
        refusal,
        LookupError::NotReady {
            state: Unloading,
            ..
        }
    ));
    assert_eq!(fixture.metric("safeserve_models{state=\"unloading\"}"), 1.0);
    assert_eq!(scale_of(&held), 3.0);
    assert!(fixture.has_series("m", 2));

    drop(held);
    fixture.repository.rescan();
    assert_eq!(fixture.states(), [("m".into(), 1, Ready)]);
    assert_eq!(fixture.metric("safeserve_models{state=\"unloading\"}"), 0.0);
    assert!(!fixture.has_series("m", 2) && fixture.has_series("m", 1));
}

#[test]
fn a_version_that_comes_back_while_it_unloads_has_its_series() {
    let fixture = Fixture::of(&[("m/1", 2.0), ("n", 1.0)]);
    let held = fixture.repository.find("m", None).unwrap();
    fixture.remove("m");
    assert_eq!(fixture.entry("m", 1).0, Unloading);
    fixture.write("m/1", 3.0);
    assert_eq!(fixture.answer("m"), (1, 3.0));
    assert_eq!(scale_of(&held), 2.0);
    drop(held);
    fixture.repository.rescan();
    assert_eq!(fixture.answer("m"), (1, 3.0));
    assert!(fixture.has_series("m", 1));
}

#[test]
fn a_model_whose_directory_is_gone_is_unknown() {
    let fixture = Fixture::of(&[("m/1", 2.0), ("n", 1.0)]);
    fixture.remove("m");
    fixture.repository.rescan();
    let refusal = fixture.repository.find("m", None).unwrap_err();
    assert!(
        matches!(refusal, LookupError::UnknownModel { .. }),
        "{refusal}"
    );
    assert_eq!(fixture.repository.versions("m"), None);
    assert!(!fixture.has_series("m", 1));
}

#[test]
fn a_model_whose_versions_are_all_taken_away_is_unloaded() {
    let fixture = Fixture::with(&[("m/1", 2.0), ("m/2", 3.0), ("n", 1.0)], followed);
    fixture.remove("m/2");
    fixture.remove("m/1");
    assert!(fixture.repository.find("m", None).is_err());
    assert!(!fixture.has_series("m", 1) && !fixture.has_series("m", 2));
    // What is left may be a copy that has begun.
    fixture.repository.rescan();
    assert_eq!(fixture.entry("m", 1).0, Loading);
    // The files of a model without versions, one after the other.
    fs::remove_file(fixture.path("n/config.json")).unwrap();
    fixture.repository.rescan();
    assert!(fixture.repository.find("n", None).is_err());
}

#[test]
fn a_configuration_next_to_versions_unloads_none_of_them() {
    let fixture = Fixture::of(&[("m/1", 2.0), ("m/2", 3.0)]);
    fixture.put("m/config.json", &config(4.0));
    for version in [1, 2] {
        let (state, reason) = fixture.entry("m", version);
        assert_eq!(state, Ready);
        assert!(reason.contains("move the files into one"), "{reason}");
    }
    assert_eq!(fixture.answer("m"), (2, 3.0));
    fs::remove_file(fixture.path("m/config.json")).unwrap();
    fixture.repository.rescan();
    assert_eq!(fixture.entry("m", 1), (Ready, String::new()));
}

#[test]
fn a_model_that_is_a_link_in_a_circle_is_gone_until_it_is_back() {
    let fixture = Fixture::of(&[("m/1", 2.0), ("m/2", 3.0), ("n", 1.0)]);
    fs::rename(fixture.path("m"), fixture.path(".m")).unwrap();
    symlink("m", fixture.path("m")).unwrap();
    fixture.repository.rescan();
    assert!(fixture.repository.find("m", None).is_err());
    fs::remove_file(fixture.path("m")).unwrap();
    fs::rename(fixture.path(".m"), fixture.path("m")).unwrap();
    fixture.repository.rescan();
    assert_eq!(fixture.answer("m"), (2, 3.0));
}

#[test]
fn a_repository_that_is_lost_goes_on_serving() {
    let fixture = Fixture::of(&[("m/1", 2.0), ("n", 3.0)]);
    let root = fixture.root.path();
    let away = root.with_extension("away");
    fs::rename(root, &away).unwrap();
    fixture.repository.rescan();
    assert_eq!(fixture.answer("m"), (1, 2.0));
    // What is left after an unmount.
    fs::create_dir(root).unwrap();
    fixture.repository.rescan();
    assert_eq!(fixture.answer("n"), (1, 3.0));
    fs::remove_dir(root).unwrap();
    fs::rename(&away, root).unwrap();
    let before = fixture.repository.find("m", None).unwrap();
    fixture.repository.rescan();
    assert!(Arc::ptr_eq(
        &before,
        &fixture.repository.find("m", None).unwrap()
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
    let fixture = Fixture::of(&[("other", 1.0)]);
    for (data, scale) in [("..a", 2.0), ("..b", 3.0)] {
        write_model(&fixture.path(data).join("m/1"), &config(scale), &weights());
    }
    symlink("..a", fixture.path("..data")).unwrap();
    symlink("..data/m", fixture.path("m")).unwrap();
    fixture.repository.rescan();
    assert_eq!(fixture.answer("m"), (1, 2.0));
    symlink("..b", fixture.path("..data_tmp")).unwrap();
    fs::rename(fixture.path("..data_tmp"), fixture.path("..data")).unwrap();
    fixture.repository.rescan();
    assert_eq!(fixture.answer("m"), (1, 3.0));
}

#[test]
fn a_directory_that_takes_anothers_place_is_a_new_version() {
    let fixture = Fixture::of(&[("m/1", 2.0)]);
    write_model(&fixture.path(".next"), &config(3.0), &weights());
    fs::rename(fixture.path("m/1"), fixture.path(".last")).unwrap();
    fs::rename(fixture.path(".next"), fixture.path("m/1")).unwrap();
    fixture.repository.rescan();
    assert_eq!(fixture.answer("m"), (1, 3.0));
}

#[test]
fn a_copy_that_is_not_complete_is_waited_for() {
    let fixture = Fixture::with(&[("m/1", 2.0)], followed);
    fs::create_dir(fixture.path("n")).unwrap();
    fixture.repository.rescan();
    let (state, reason) = fixture.entry("n", 1);
    assert_eq!(state, Loading);
    assert!(
        reason.starts_with("waiting for its files to be complete: "),
        "{reason}"
    );
    assert!(reason.contains("holds neither config.json nor"), "{reason}");
    assert_eq!(fixture.metric("safeserve_models{state=\"loading\"}"), 1.0);

    fs::write(fixture.path("n/config.json"), &config(3.0)[..20]).unwrap();
    fixture.repository.rescan();
    let (state, reason) = fixture.entry("n", 1);
    assert!(
        state == Loading && reason.contains("not valid JSON"),
        "{reason}"
    );
    fs::write(fixture.path("n/config.json"), config(3.0)).unwrap();
    fixture.repository.rescan();
    let (state, reason) = fixture.entry("n", 1);
    assert!(
        state == Loading && reason.contains("model.safetensors: No such file"),
        "{reason}"
    );
    let refusal = fixture.repository.find("n", None).unwrap_err();
    assert!(matches!(
        refusal,
        LookupError::NotReady { state: Loading, .. }
    ));

    let weights = weights();
    for length in 0..weights.len() {
        fs::write(fixture.path("n/model.safetensors"), &weights[..length]).unwrap();
        fixture.repository.rescan();
        assert_eq!(fixture.entry("n", 1).0, Loading, "{length} bytes");
        assert_eq!(fixture.answer("m"), (1, 2.0));
    }
    fs::write(fixture.path("n/model.safetensors"), &weights).unwrap();
    fixture.repository.rescan();
    assert_eq!(fixture.answer("n"), (1, 3.0));
    assert_eq!(fixture.entry("n", 1), (Ready, String::new()));
}

#[test]
fn a_copy_over_what_serves_is_waited_for_while_it_serves() {
    let fixture = Fixture::with(&[("m/1", 2.0)], followed);
    // In place, as `cp` writes.
    fs::write(fixture.path("m/1/model.safetensors"), &weights()[..60]).unwrap();
    fixture.repository.rescan();
    assert_eq!(fixture.answer("m"), (1, 2.0));
    let (state, reason) = fixture.entry("m", 1);
    assert_eq!(state, Ready);
    assert!(reason.starts_with("waiting for its files to be complete: model.safetensors: "));
    fixture.write("m/1", 3.0);
    assert_eq!(fixture.answer("m"), (1, 3.0));
    assert_eq!(fixture.entry("m", 1), (Ready, String::new()));
}

#[test]
fn without_watching_nothing_is_waited_for() {
    let fixture = Fixture::of(&[("m/1", 2.0)]);
    fs::create_dir(fixture.path("m/2")).unwrap();
    fixture.repository.rescan();
    let (state, reason) = fixture.entry("m", 2);
    assert_eq!(state, Unavailable);
    assert!(reason.starts_with("config.json: No such file"), "{reason}");
}

#[test]
fn a_model_is_unloaded_and_loaded_by_its_name() {
    let fixture = Fixture::of(&[("m/1", 2.0), ("m/2", 3.0), ("n", 4.0)]);
    let held = fixture.repository.find("m", None).unwrap();
    let entries = fixture.repository.unload("m").unwrap();
    let states: Vec<ModelState> = entries.iter().map(|entry| entry.state).collect();
    // No one held the first one.
    assert_eq!(states, [Unavailable, Unloading]);
    assert!(fixture.repository.find("m", None).is_err());
    drop(held);
    // Neither a scan nor new files bring it back.
    fixture.write("m/3", 5.0);
    let reason = "it was unloaded on request";
    for version in 1..=3 {
        assert_eq!(fixture.entry("m", version), (Unavailable, reason.into()));
        assert!(!fixture.has_series("m", version));
    }
    assert_eq!(fixture.answer("n"), (1, 4.0));

    let entries = fixture.repository.load("m").unwrap();
    assert!(
        entries.iter().all(|entry| entry.state == Ready),
        "{entries:?}"
    );
    assert_eq!(fixture.answer("m"), (3, 5.0));
    assert_eq!(fixture.repository.load("none"), None);
    assert_eq!(fixture.repository.unload("none"), None);
}

#[test]
fn a_load_on_request_finds_what_came_and_tries_again_what_failed() {
    let fixture = Fixture::of(&[("m/1", 2.0)]);
    write_model(&fixture.path("n"), &config(3.0), &weights());
    let entries = fixture.repository.load("n").unwrap();
    assert_eq!(entries[0].state, Ready);
    fixture.put("m/2", b"a file is no version");
    fixture.put("m/1/config.json", b"[]");
    let tried = || fixture.metric("safeserve_model_loads_total{result=\"incomplete\"}");
    let before = tried();
    fixture.repository.load("m");
    assert_eq!(tried(), before + 1.0);
}

#[test]
fn of_the_newest_only_the_old_ones_leave_when_a_new_one_serves() {
    let fixture = Fixture::with(
        &[("m/1", 2.0), ("m/2", 3.0), ("n/1", 1.0), ("n/2", 1.0)],
        |settings| {
            settings.versions = "latest, n=all".parse().unwrap();
        },
    );
    assert_eq!(
        fixture.states(),
        [
            ("m".into(), 2, Ready),
            ("n".into(), 1, Ready),
            ("n".into(), 2, Ready)
        ]
    );
    fs::create_dir(fixture.path("m/3")).unwrap();
    fixture.put("m/3/config.json", b"{}");
    assert_eq!(fixture.answer("m"), (2, 3.0));
    assert_eq!(fixture.entry("m", 3).0, Unavailable);
    fixture.write("m/3", 4.0);
    assert_eq!(fixture.answer("m"), (3, 4.0));
    assert_eq!(fixture.repository.versions("m").unwrap().len(), 1);
    assert!(!fixture.has_series("m", 2));
    // The newest deleted: the next one is loaded again.
    fixture.remove("m/3");
    assert_eq!(fixture.answer("m"), (2, 3.0));
}

#[test]
fn no_more_versions_and_models_than_allowed_are_loaded() {
    let fixture = Fixture::with(&[("a/1", 1.0), ("a/2", 2.0), ("a/3", 3.0)], |settings| {
        settings.max_versions = 2;
        settings.max_models = 2;
    });
    let (state, reason) = fixture.entry("a", 1);
    assert_eq!(state, Unavailable);
    assert!(
        reason.starts_with("models.max_versions: 2 newer"),
        "{reason}"
    );
    fixture.write("z", 4.0);
    // Existing models stay, whatever the names of new ones.
    fixture.write("b", 5.0);
    assert_eq!(fixture.answer("z"), (1, 4.0));
    let (state, reason) = fixture.entry("b", 1);
    assert_eq!(state, Unavailable);
    assert!(reason.starts_with("models.max_models: "), "{reason}");
    fixture.remove("z");
    fixture.repository.rescan();
    assert_eq!(fixture.answer("b"), (1, 5.0));
}

#[test]
fn weights_that_do_not_fit_are_refused_before_they_are_read() {
    let bytes = weights().len() as u64;
    let fixture = Fixture::with(&[("m/1", 2.0)], |settings| {
        settings.max_weight_bytes = bytes
    });
    // The version that serves takes some of the memory.
    fixture.write("n", 3.0);
    let (state, reason) = fixture.entry("n", 1);
    assert_eq!(state, Unavailable);
    assert!(reason.contains("models.max_weight_bytes"), "{reason}");
    // A replacement takes memory in addition to the version that it replaces.
    fixture.put("m/1/config.json", &config(4.0));
    assert_eq!(fixture.answer("m"), (1, 2.0));
    assert_eq!(fixture.entry("m", 1).0, Ready);
    assert!(fixture.entry("m", 1).1.contains("models.max_weight_bytes"));
    // With room it is loaded.
    fixture.remove("m");
    assert_eq!(fixture.answer("n"), (1, 3.0));
}

#[test]
fn a_new_version_in_the_directory_of_one_model_is_one_of_its_versions() {
    let root = tempfile::tempdir().unwrap();
    write_model(&root.path().join("m/1"), &config(2.0), &weights());
    let settings = RepositorySettings::all_of(&root.path().join("m"));
    let repository = ModelRepository::open(settings, &super::scheduler(), &super::metrics());
    let repository = repository.unwrap();
    // A partial copy does not look like a version, and its directory looks like one of models.
    fs::create_dir(root.path().join("m/2")).unwrap();
    repository.rescan();
    let names: BTreeSet<String> = repository.index().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["m".to_owned()].into());
    write_model(&root.path().join("m/2"), &config(3.0), &weights());
    repository.rescan();
    assert_eq!(repository.find("m", None).unwrap().model.version, 2);
}
