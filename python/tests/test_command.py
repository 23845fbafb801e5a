"""The command line, run as `python -m safeserve_export`, and the package as it is installed."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import keras
import numpy as np
import pytest
import torch
from exporting import nothing_in
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from torch import nn

from safeserve_export.__main__ import main

PACKAGE = Path(__file__).resolve().parent.parent


def command(*arguments, code=0, **environment):
    """Runs the command; gives what it printed, on stdout if it ends well and else on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "safeserve_export", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(PACKAGE / "src")} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture
def said(capsys):
    """Runs the command in this process, which has its frameworks already; as `command`."""

    def said(*arguments, code=0):
        try:
            ended = main([str(argument) for argument in arguments])
        except SystemExit as exit:
            ended = exit.code
        printed = capsys.readouterr()
        assert ended == code, f"{ended}\n{printed.out}\n{printed.err}"
        return printed.out if code == 0 else printed.err

    return said


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model of each kind of file."""
    place = tmp_path_factory.mktemp("files")
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    for name in ("model.keras", "model.h5"):
        model.save(place / name)
    module = nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1))
    for name in ("model.pt", "model.pth"):
        torch.save(module, place / name)
    torch.save(module.state_dict(), place / "weights.pt")
    torch.save([1, 2], place / "list.pt")
    rows, classes = load_iris(return_X_y=True)
    estimator = LogisticRegression(max_iter=1000).fit(rows, classes)
    joblib.dump(estimator, place / "model.joblib")
    (place / "model.pkl").write_bytes(pickle.dumps(estimator))
    np.save(place / "rows.npy", rows[:40].astype(np.float32))
    np.savez(place / "rows.npz", input=rows[:40])
    (place / "rows.json").write_text(json.dumps({"instances": rows[:3].tolist()}))
    for name in ("broken.keras", "broken.h5", "broken.pt", "broken.joblib", "broken.npy", "model.onnx"):
        (place / name).write_text("nothing of the kind")
    return place


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("file", "more"),
    [
        ("model.keras", []),
        ("model.h5", []),
        ("model.pt", ["--trust", "--example", "rows.npy"]),
        ("model.pth", ["--trust", "--example", "rows.npz"]),
        ("model.joblib", ["--trust"]),
        ("model.pkl", ["--trust", "--example", "rows.json", "--check-rows", "rows.npy"]),
    ],
)
def test_each_kind_of_file_is_exported(file, more, files, tmp_path):
    more = [files / part if part.startswith("rows.") else part for part in more]
    names = [
        "--labels",
        "setosa, versicolor,virginica",
        "--feature-names",
        "a,b,c,d",
        "--description",
        "Irises.",
    ]
    printed = command(files / file, tmp_path / "models" / "iris", *more, *names)
    assert printed.splitlines()[0] == f"exported {tmp_path}/models/iris/1, version 1 of iris"
    assert printed.splitlines()[-1].startswith("every answer is as expected")
    config = json.loads((tmp_path / "models" / "iris" / "1" / "config.json").read_text())
    assert config["labels"] == ["setosa", "versicolor", "virginica"] and config["feature_names"] == list("abcd")
    assert (config["task"], config["description"]) == ("multiclass-classification", "Irises.")


def test_it_is_not_checked_if_asked(said, monkeypatch, files, tmp_path):
    monkeypatch.setenv("SAFESERVE", "/no/such")
    printed = said(files / "model.keras", tmp_path / "m", "--no-check")
    assert printed.splitlines()[-1] == "not checked"


def test_the_program_the_task_and_the_tolerance_are_taken(said, monkeypatch, files, tmp_path):
    program = os.environ["SAFESERVE"]
    monkeypatch.setenv("SAFESERVE", "/no/such")
    more = ["--safeserve", program, "--task", "none", "--tolerance", "1e-3"]
    assert "tolerance 1e-3 + 1e-3 * |expected|" in said(files / "model.keras", tmp_path / "m", *more)
    assert "task" not in json.loads((tmp_path / "m" / "1" / "config.json").read_text())


def test_a_threshold_is_a_binary_classifiers(said, tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 3))
    joblib.dump(LogisticRegression().fit(rows, rows[:, 0] > 0), tmp_path / "model.joblib")
    said(tmp_path / "model.joblib", tmp_path / "m", "--trust", "--threshold", "0.3", "--labels", "no,yes")
    config = json.loads((tmp_path / "m" / "1" / "config.json").read_text())
    assert config["task"] == {"type": "binary-classification", "threshold": 0.3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["model.pt", "--example", "rows.npy"],
            "model.pt: holds a pickle, which may run any code when it is read; say --trust",
        ),
        (["model.joblib"], "model.joblib: holds a pickle"),
        (["model.pkl"], "model.pkl: holds a pickle"),
        (
            ["model.pt", "--trust"],
            "model.pt: a module of PyTorch does not say what it takes; give rows by --example FILE",
        ),
        (
            ["weights.pt", "--trust", "--example", "rows.npy"],
            "holds weights (a state_dict) and not the module",
        ),
        (["list.pt", "--trust", "--example", "rows.npy"], "expected a torch.nn.Module, got list"),
        (["model.onnx"], "model.onnx: unknown kind of file '.onnx'; expected one of .keras, .h5"),
        (["nowhere.keras"], "nowhere.keras: there is no such file"),
        (["broken.keras"], "broken.keras: Keras cannot read it: "),
        (["broken.h5"], "broken.h5: Keras cannot read it: "),
        (["broken.pt", "--trust", "--example", "rows.npy"], "broken.pt: PyTorch cannot read it: "),
        (["broken.joblib", "--trust"], "broken.joblib: joblib cannot read it: "),
        (["model.keras", "--check-rows", "broken.npy"], "broken.npy: cannot be read as rows: "),
        (["model.keras", "--check-rows", "nowhere.npy"], "nowhere.npy: cannot be read as rows: "),
        (
            ["model.keras", "--check-rows", "model.h5"],
            "model.h5: unknown kind of file '.h5'; expected rows in .npy, .npz or .json",
        ),
        (["model.keras", "--labels", "a,b"], "labels: expected 3, got 2: a, b"),
        (
            ["model.keras", "--threshold", "0.3", "--task", "regression"],
            "--threshold: only a binary-classification has one",
        ),
        (["model.keras", "--safeserve", "/no/such"], "the program given, '/no/such', is no program"),
        (["model.keras", "--safeserve", "false"], "the exported model does not pass its check"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line_with_code_1(arguments, message, said, files, tmp_path):
    known = {path.name for path in files.iterdir()} | {"nowhere.keras", "nowhere.npy"}
    model, *more = [files / part if part in known else part for part in arguments]
    printed = said(model, tmp_path / "models" / "m", *more, code=1)
    last = [line for line in printed.splitlines() if line.startswith("safeserve_export: ")]
    assert len(last) == 1 and message in last[0], printed
    assert nothing_in(tmp_path / "models")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["model.keras"],
        ["model.keras", "m", "--task", "guess"],
        ["model.keras", "m", "--tolerance", "inf"],
        ["a.keras", "m", "--nonsense"],
    ],
)
def test_bad_arguments_end_with_2(arguments, said):
    assert "usage: " in said(*arguments, code=2)


def test_layers_that_cannot_be_exported_are_listed(tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 2)), keras.layers.Conv1D(2, 3, name="conv"), keras.layers.GRU(2, name="memory")]
    )
    model.save(tmp_path / "model.keras")
    # As its user would: no traceback, and the frameworks' own messages do not hide it.
    printed = command(tmp_path / "model.keras", tmp_path / "models" / "m", code=1)
    assert "2 parts cannot be exported:\n  'conv' (Conv1D): the server has no such thing\n  'memory' (GRU): " in printed
    assert nothing_in(tmp_path / "models")


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_code_in_a_file_of_keras_is_not_run(kind, said, tmp_path):
    mark = tmp_path / "was-run"
    layer = keras.layers.Lambda(eval(f"lambda x: (open({str(mark)!r}, 'w').close(), x)[1]"))
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(2)])
    assert mark.exists()
    mark.unlink()
    model.save(tmp_path / f"model.{kind}")
    assert f"model.{kind}: Keras cannot read it: " in said(tmp_path / f"model.{kind}", tmp_path / "m", code=1)
    assert not mark.exists()


def test_an_older_keras_that_would_run_it_needs_trust(said, monkeypatch, files, tmp_path):
    monkeypatch.setattr(keras, "__version__", "3.10.0")
    assert "update it to 3.11.3, or say --trust" in said(files / "model.h5", tmp_path / "m", code=1)
    said(files / "model.h5", tmp_path / "m", "--trust")
    said(files / "model.keras", tmp_path / "m")


def test_the_package_is_installed_with_its_types_and_needs_no_framework(tmp_path):
    # A copy, since a build leaves files next to the sources.
    source = shutil.copytree(PACKAGE, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, "--target", tmp_path / "site", source], check=True, timeout=300)
    assert (tmp_path / "site" / "safeserve_export" / "py.typed").is_file()
    lines = (
        "import sys, safeserve_export as e; print(e.__version__, {'keras', 'torch', 'sklearn'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", lines],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0.1.0 set()\n"
    version = subprocess.run(
        [tmp_path / "site" / "bin" / "safeserve-export", "--version"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert version.stdout == "safeserve-export 0.1.0\n"


def test_the_types_are_sound():
    cache = PACKAGE.parent / "target" / "mypy"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", cache], cwd=PACKAGE, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues found in 1" in done.stdout, done.stdout
