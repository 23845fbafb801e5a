"""Where a model is written, what lies there, and that nothing is left behind when it is not."""

import json
import os
import stat
import threading
from dataclasses import replace

import numpy as np
import pytest
from exporting import config_of, nothing_in
from safetensors.numpy import load_file
from sklearn.linear_model import LinearRegression

import safeserve_export
from safeserve_export import CheckError, ExportError, directory, export_sklearn, from_sklearn

ROWS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def model():
    return LinearRegression().fit(ROWS, ROWS @ [1, 2, 3] + 4)


def files(place):
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def test_a_complete_directory_with_an_example_and_what_it_was_compared_by(tmp_path):
    exported = export_sklearn(model(), tmp_path / "models" / "sum", example=ROWS[:1], check_rows=ROWS)
    assert (exported.path, exported.name, exported.version) == (tmp_path / "models" / "sum" / "1", "sum", 1)
    assert files(tmp_path) == [
        "models/sum/1/check.safetensors",
        "models/sum/1/config.json",
        "models/sum/1/example.json",
        "models/sum/1/model.safetensors",
    ]
    assert json.loads((exported.path / "example.json").read_text()) == {"instances": [[float(str(x)) for x in ROWS[0]]]}
    compared = load_file(exported.path / "check.safetensors")
    assert compared.keys() == {"input.features", "output.prediction"}
    assert np.array_equal(compared["input.features"], ROWS) and compared["output.prediction"].shape == (20, 1)
    config_of(exported)


def test_rows_that_are_not_given_are_made_up_next_to_the_example(tmp_path):
    exported = export_sklearn(model(), tmp_path / "sum", example=ROWS[:5])
    assert load_file(exported.path / "check.safetensors")["input.features"].shape == (105, 3)
    assert len(json.loads((exported.path / "example.json").read_text())["instances"]) == 2
    exported = export_sklearn(model(), tmp_path / "sum")
    assert load_file(exported.path / "check.safetensors")["input.features"].shape == (100, 3)


def test_a_model_that_is_there_gets_the_next_version(tmp_path):
    place = tmp_path / "sum"
    assert [export_sklearn(model(), place).version for _ in range(3)] == [1, 2, 3]
    assert export_sklearn(model(), place / "10").version == 10
    assert export_sklearn(model(), place).version == 11
    with pytest.raises(ExportError, match="sum/10: is there already; give a version that is not"):
        export_sklearn(model(), place / "10")
    assert export_sklearn(model(), tmp_path / "new" / "7").path == tmp_path / "new" / "7"
    (tmp_path / "empty").mkdir()
    assert export_sklearn(model(), tmp_path / "empty").version == 1


def test_a_model_without_versions_gets_none(tmp_path):
    place = tmp_path / "sum"
    place.mkdir()
    (place / "config.json").write_text("{}")
    with pytest.raises(ExportError, match="holds config.json of a model without versions.*move its files to .*/sum/1"):
        export_sklearn(model(), place)
    assert files(tmp_path) == ["sum/config.json"]


@pytest.mark.parametrize("name", [".hidden", "_hidden", "two words", "ü", "x" * 129])
def test_names_that_the_server_does_not_look_at_are_refused(name, tmp_path):
    with pytest.raises(ExportError, match="is no name for a model"):
        export_sklearn(model(), tmp_path / name)


def test_places_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="expected a directory, it is something else"):
        export_sklearn(model(), tmp_path / "file")
    with pytest.raises(ExportError, match="file"):
        export_sklearn(model(), tmp_path / "file" / "sum")


def test_everybody_whom_the_umask_allows_may_read_the_files(tmp_path):
    before = os.umask(0o022)
    try:
        exported = export_sklearn(model(), tmp_path / "sum")
    finally:
        os.umask(before)
    for path in exported.path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644, path
    for path in (exported.path, exported.path.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755, path


def test_exporters_at_the_same_time_get_versions_of_their_own(tmp_path):
    made, estimator = [], model()
    threads = [
        threading.Thread(target=lambda: made.append(export_sklearn(estimator, tmp_path / "sum").version))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == list(range(1, 9))
    assert sorted(os.listdir(tmp_path)) == ["sum"]


def planted(monkeypatch, change):
    """Changes what the exporter of scikit-learn passes to the writer."""
    read = from_sklearn.read
    monkeypatch.setattr(from_sklearn, "read", lambda *given: change(read(*given)))


def test_an_export_with_other_weights_does_not_pass_and_leaves_nothing(monkeypatch, tmp_path):
    # One weight, by two units of the fourth digit.
    planted(monkeypatch, lambda it: replace(it, weights={name: w + 2e-4 for name, w in it.weights.items()}))
    with pytest.raises(CheckError) as caught:
        export_sklearn(model(), tmp_path / "models" / "sum", check_rows=ROWS)
    assert "the exported model does not pass its check; nothing was left behind:" in str(caught.value)
    assert 'output "prediction": off by ' in str(caught.value) and "beyond the" in str(caught.value)
    assert nothing_in(tmp_path / "models")
    assert export_sklearn(model(), tmp_path / "models" / "sum", check_rows=ROWS, tolerance=1e-3).version == 1


def test_an_export_that_the_server_refuses_says_its_reason_and_leaves_nothing(monkeypatch, tmp_path):
    planted(monkeypatch, lambda it: replace(it, weights={}))
    with pytest.raises(CheckError, match='no tensor "linearregression.weight"'):
        export_sklearn(model(), tmp_path / "models" / "sum")
    assert nothing_in(tmp_path / "models")


def test_an_older_version_stays_when_the_next_does_not_pass(monkeypatch, tmp_path):
    export_sklearn(model(), tmp_path / "sum")
    before = files(tmp_path)
    planted(monkeypatch, lambda it: replace(it, weights={}))
    with pytest.raises(CheckError):
        export_sklearn(model(), tmp_path / "sum")
    assert files(tmp_path) == before


def test_settings_of_a_server_do_not_change_the_check(monkeypatch, tmp_path):
    monkeypatch.setenv("SAFESERVE__MODELS__VERSIONS", "7")
    monkeypatch.setenv("SAFESERVE__NONSENSE", "1")
    config_of(export_sklearn(model(), tmp_path / "sum"))


def test_without_the_program_there_is_no_export_unless_it_is_not_checked(monkeypatch, tmp_path):
    monkeypatch.delenv("SAFESERVE")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ExportError,
        match="'safeserve', which checks an export by running it, is not on the PATH; build it with",
    ):
        export_sklearn(model(), tmp_path / "models" / "sum")
    with pytest.raises(ExportError, match="the program given, '/no/such', is no program"):
        export_sklearn(model(), tmp_path / "models" / "sum", program="/no/such")
    monkeypatch.setenv("SAFESERVE", "/no/such")
    with pytest.raises(ExportError, match="the environment variable SAFESERVE, '/no/such', is no program"):
        export_sklearn(model(), tmp_path / "models" / "sum")
    assert nothing_in(tmp_path / "models")
    exported = export_sklearn(model(), tmp_path / "models" / "sum", check=False)
    assert exported.report == "" and len(files(exported.path)) == 4


def test_the_program_is_found_on_the_path(monkeypatch, tmp_path):
    program = os.path.abspath(os.environ["SAFESERVE"])
    monkeypatch.delenv("SAFESERVE")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "safeserve").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    config_of(export_sklearn(model(), tmp_path / "sum"))


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        ({"check_rows": ROWS[:, :2]}, r"check_rows: features: expected shape \[rows, 3\], got \[20, 2\]"),
        ({"check_rows": ROWS[:0]}, r"expected shape \[rows, 3\], got \[0, 3\]"),
        ({"check_rows": ROWS[0]}, r"expected shape \[rows, 3\], got \[3\]"),
        ({"example": [["a", "b", "c"]]}, "example: features: expected numbers"),
        ({"example": [[1, 2, float("inf")]]}, "example: features: expected finite 32-bit numbers"),
        ({"check_rows": {"x": ROWS}}, "check_rows: expected the inputs features, got x"),
        ({"labels": ["a", "b"]}, "labels: only classifiers have labels, the task is 'regression'"),
        ({"feature_names": ["a", "b"]}, "feature_names: expected 3, got 2: a, b"),
        ({"feature_names": ["a", "b", "a"]}, "feature_names: 'a' appears twice"),
        (
            {"task": "guess"},
            "task: expected one of binary-classification, multiclass-classification, regression, none, got 'guess'",
        ),
        (
            {"task": {"type": "regression", "threshold": 1}},
            "task: expected {'type': 'binary-classification', 'threshold': NUMBER}",
        ),
        ({"tolerance": -1}, "tolerance: expected a number from 0 on, got -1"),
        ({"tolerance": float("nan")}, "tolerance: expected a number from 0 on, got nan"),
    ],
)
def test_bad_keywords_are_refused_before_anything_is_written(keywords, reason, tmp_path):
    with pytest.raises(ExportError, match=reason):
        export_sklearn(model(), tmp_path / "models" / "sum", **keywords)
    assert nothing_in(tmp_path / "models")


def test_the_tolerance_of_the_program_is_the_default_here():
    assert safeserve_export.TOLERANCE == 1e-5 and directory.CHECK_FILE == "check.safetensors"
