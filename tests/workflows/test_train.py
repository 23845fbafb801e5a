"""From a CSV file to a served network: `safeserve train`, its running server, and its twins.

A twin is the same network, trained by Keras or scikit-learn on the same rows and judged by the same
held-out rows, which neither saw.
"""

import csv
import html.parser
import json
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, post
from server import Server, end, start, wait_until
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HELLO_KERAS = ROOT / "models" / "hello-keras"
TWO_POINTS = 0.02

Run = Callable[..., subprocess.CompletedProcess]
Serve = Callable[..., Server]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository of one model, as a server needs one to start."""
    repository = tmp_path / "models"
    repository.mkdir()
    shutil.copytree(HELLO_KERAS, repository / "hello-keras")
    return repository


def write(path: Path, names: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return path


def wait_for(server: Server, model: str, version: int = 1) -> None:
    """Waits until a running server answers with this version."""

    def is_there() -> bool:
        status, index = post(server, "/v2/repository/index", {})
        assert status == 200, index
        return any(
            (entry["name"], entry.get("version"), entry["state"]) == (model, str(version), "READY")
            for entry in index
        )

    wait_until(is_there, 10, f"{model} {version} serves")


def predict(server: Server, model: str, names: list[str], rows: np.ndarray) -> np.ndarray:
    """The server's answers to rows that name their features."""
    instances = [dict(zip(names, row, strict=True)) for row in rows.tolist()]
    status, answer = post(server, f"/v1/models/{model}:predict", {"instances": instances})
    assert status == 200, answer
    return np.array(answer["predictions"])


def train_classifier(
    run: Run, tmp_path: Path, models: Path, name: str, load: Callable, layers: str, seed: int = 0
) -> tuple[list[str], list[np.ndarray]]:
    """Trains on a part of a data set, from CSV; gives the features' names, and the parts."""
    data = load()
    names = [str(feature).replace(" ", "_") for feature in data.feature_names]
    parts = train_test_split(data.data, data.target, test_size=0.4, random_state=seed, stratify=data.target)
    rows, _, classes, _ = parts
    labels = [str(label) for label in data.target_names]
    table = [[*row, labels[index]] for row, index in zip(rows.tolist(), classes, strict=True)]
    path = write(tmp_path / f"{name}.csv", [*names, "class"], table)
    run("train", path, "--target", "class", "--out", models / name, "--layers", layers, "--seed", seed)
    return names, parts


def labels_of(models: Path, name: str) -> list[str]:
    return json.loads((models / name / "1" / "config.json").read_text())["labels"]


# fmt: off
@pytest.mark.parametrize(("name", "load", "layers", "activation"), [
    ("iris", load_iris, [16], "relu"),
    ("wine", load_wine, [16], "relu"),
    ("breast-cancer", load_breast_cancer, [10, 10], "tanh"),
    ("digits", load_digits, [64, 32], "relu"),
])
# fmt: on
def test_a_classifier_from_csv_scores_as_its_scikit_learn_twin(
    run: Run,
    serve: Serve,
    tmp_path: Path,
    models: Path,
    name: str,
    load: Callable,
    layers: list[int],
    activation: str,
) -> None:
    server = serve(models)
    spec = ",".join(f"{units}:{activation}" for units in layers)
    labels = np.array([str(label) for label in load().target_names])
    ours, twins = [], []
    # Of one split a row or two decide; three splits are three trainings of each.
    for seed in range(3):
        model = f"{name}-{seed}"
        names, (rows, held_out, classes, held_out_classes) = train_classifier(
            run, tmp_path, models, model, load, spec, seed
        )
        wait_for(server, model)
        answers = predict(server, model, names, held_out).reshape(len(held_out), -1)
        given = answers.argmax(1) if answers.shape[1] > 1 else (answers.ravel() > 0.5).astype(int)
        given = np.array(labels_of(models, model))[given]
        ours.append(np.mean(given == labels[held_out_classes]))
        mlp = MLPClassifier(
            hidden_layer_sizes=layers, activation=activation, max_iter=1000, random_state=seed
        )
        twin = make_pipeline(StandardScaler(), mlp).fit(rows, classes)
        twins.append(twin.score(held_out, held_out_classes))
        print(f"{model}: {ours[-1]:.4f}, twin {twins[-1]:.4f}, {len(held_out)} rows held out")
    assert np.mean(ours) >= np.mean(twins) - TWO_POINTS


def keras_twin(
    features: int, layers: list[tuple[int, str]], optimizer: object, scaled: np.ndarray | None
) -> "keras.Model":
    """An untrained network of Keras; `scaled` are the rows by which it standardises, if it does."""
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((features,))])
    if scaled is not None:
        normalization = keras.layers.Normalization()
        normalization.adapt(scaled)
        model.add(normalization)
    for units, activation in layers:
        model.add(keras.layers.Dense(units, activation=activation))
    model.add(keras.layers.Dense(1, activation="sigmoid"))
    model.compile(optimizer, loss="binary_crossentropy")
    return model


SEED_LAYERS = [(10, "sigmoid"), (10, "relu")]


def test_the_seed_network_from_csv_scores_as_its_keras_twin(
    run: Run, serve: Serve, tmp_path: Path, models: Path
) -> None:
    """The two rows of models/hello-keras, its layers and its optimiser."""
    import keras

    server = serve(models)
    rows, classes = np.array([[1, 0, 1], [1, 1, 0]], np.float32), np.array([0, 1])
    table = [[*row, index] for row, index in zip(rows.astype(int).tolist(), classes, strict=True)]
    path = write(tmp_path / "hello.csv", ["a", "b", "c", "class"], table)
    options = ["--optimizer", "sgd", "--learning-rate", "0.5", "--momentum", "0", "--epochs", "300"]
    layers = ["--layers", "10:sigmoid,10:relu", "--validation", "0"]
    run("train", path, "--target", "class", "--out", models / "hello", *layers, *options)
    wait_for(server, "hello")
    ours = predict(server, "hello", ["a", "b", "c"], rows).ravel()

    twin = keras_twin(3, SEED_LAYERS, keras.optimizers.SGD(0.5), None)
    twin.fit(rows, classes.reshape(-1, 1), epochs=300, shuffle=False, verbose=0)
    theirs = twin.predict(rows, verbose=0).ravel()
    print(f"hello: {ours}, twin {theirs}")
    assert np.mean((ours > 0.5) == classes) >= np.mean((theirs > 0.5) == classes) - TWO_POINTS
    # Two rows are soon right; how sure the network is of them says more.
    sure = [np.mean(np.where(classes == 1, answers, 1 - answers)) for answers in (ours, theirs)]
    assert sure[0] >= sure[1] - TWO_POINTS


def test_the_seed_network_on_a_real_table_scores_as_its_keras_twin(
    run: Run, serve: Serve, tmp_path: Path, models: Path
) -> None:
    import keras

    server = serve(models)
    names, (rows, held_out, classes, held_out_classes) = train_classifier(
        run, tmp_path, models, "seed", load_breast_cancer, "10:sigmoid,10:relu"
    )
    wait_for(server, "seed")
    # Class 1 is the second label: benign comes before malignant, whose index in the data set is 0.
    assert labels_of(models, "seed") == ["benign", "malignant"]
    malignant = predict(server, "seed", names, held_out).ravel() > 0.5
    ours = np.mean(malignant == (held_out_classes == 0))

    twin = keras_twin(len(names), SEED_LAYERS, keras.optimizers.AdamW(0.003), rows)
    stop = keras.callbacks.EarlyStopping(patience=30, restore_best_weights=True)
    twin.fit(rows, classes, epochs=300, validation_split=0.2, callbacks=[stop], verbose=0)
    theirs = np.mean((twin.predict(held_out, verbose=0).ravel() > 0.5) == held_out_classes)
    print(f"seed network on breast-cancer: {ours:.4f}, twin {theirs:.4f}, {len(held_out)} rows held out")
    assert ours >= theirs - TWO_POINTS


def test_a_regression_from_csv_scores_as_its_scikit_learn_twin(
    run: Run, serve: Serve, tmp_path: Path, models: Path
) -> None:
    data = load_diabetes(scaled=False)
    parts = train_test_split(data.data, data.target, test_size=0.4, random_state=0)
    rows, held_out, targets, held_out_targets = parts
    table = [[*row, target] for row, target in zip(rows.tolist(), targets.tolist(), strict=True)]
    path = write(tmp_path / "diabetes.csv", [*data.feature_names, "progression"], table)
    server = serve(models)
    done = run("train", path, "--target", "progression", "--out", models / "diabetes", "--layers", "16:relu")
    assert "so the task is regression" in done.stderr
    assert "residuals   answer less truth, by quantile" in done.stdout
    wait_for(server, "diabetes")
    answers = predict(server, "diabetes", data.feature_names, held_out).ravel()

    def r2(answers: np.ndarray) -> float:
        return 1 - np.mean((answers - held_out_targets) ** 2) / np.var(held_out_targets)

    mlp = MLPRegressor(hidden_layer_sizes=[16], early_stopping=True, n_iter_no_change=30, max_iter=2000, random_state=0)
    mlp.set_params(learning_rate_init=0.01)
    theirs = make_pipeline(StandardScaler(), mlp)
    centre, deviation = targets.mean(), targets.std()
    theirs.fit(rows, (targets - centre) / deviation)
    twin = r2(theirs.predict(held_out) * deviation + centre)
    print(f"diabetes: R2 {r2(answers):.4f}, twin {twin:.4f}, {len(held_out)} rows held out")
    assert r2(answers) >= twin - TWO_POINTS


def passengers(rows: int) -> list[list[object]]:
    """A table with categories, quotes, numbers and categories that are missing, and a name a row."""
    random = np.random.default_rng(0)
    table = []
    for row in range(rows):
        sex = random.choice(["female", "male"])
        port = random.choice(["Cork", 'Cherbourg, "the port"', "Southampton", ""], p=[0.2, 0.3, 0.4, 0.1])
        age = "" if random.random() < 0.2 else round(float(random.uniform(1, 80)), 1)
        fare = round(float(random.lognormal(3)), 2)
        score = 2.5 * (sex == "female") + 0.02 * fare - 0.02 * (age or 30) - 1 + random.normal(0, 0.3)
        table.append([f"Passenger {row}", sex, port, age, fare, "yes" if score > 0 else "no"])
    return table


def encoded(columns: list[dict], row: dict[str, object]) -> dict[str, float]:
    """A row of the table as the features that the model's configuration says it becomes."""
    features = {}
    for column in columns:
        name, cell = column["name"], row[column["name"]]
        if "categories" in column:
            assert cell in column["categories"]
            features |= {f"{name}={category}": int(category == cell) for category in column["categories"]}
        else:
            features[name] = cell if cell != "" else column["fill"]
    return features


NAMES = ["name", "sex", "port", "age", "fare", "survived"]


def test_from_csv_to_curl_with_a_server_that_notices(
    run: Run, serve: Serve, tmp_path: Path, models: Path
) -> None:
    server = serve(models)
    path = write(tmp_path / "passengers.csv", NAMES, passengers(400))
    address = {"PATH": "/usr/bin:/bin", "SAFESERVE__SERVER__BIND": f"127.0.0.1:{server.port}"}
    arguments = ["train", path, "--target", "survived", "--out", models / "passengers"]
    done = run(*arguments, "--seed", 7, env=address)
    assert 'column "name" is left out: its 400 cells hold 400 different texts' in done.stderr
    assert "so the task is binary-classification" in done.stderr
    wait_for(server, "passengers")

    # What the server is asked is the very line that the command printed.
    [line] = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("curl ")]
    assert f"http://127.0.0.1:{server.port}/v1/models/passengers:predict" in line
    asked = subprocess.run([*shlex.split(line), "-s"], capture_output=True, text=True, timeout=30, check=True)
    [prediction] = json.loads(asked.stdout)["predictions"]
    assert 0 <= np.ravel(prediction)[0] <= 1

    directory = models / "passengers" / "1"
    config = json.loads((directory / "config.json").read_text())
    assert config["labels"] == ["no", "yes"]
    assert [column["name"] for column in config["columns"]] == NAMES[1:5]
    assert config["columns"][1]["categories"] == ["", 'Cherbourg, "the port"', "Cork", "Southampton"]
    assert config["feature_names"][:2] == ["sex=female", "sex=male"]
    age = config["columns"][2]
    assert age["fill"] == age["statistics"]["mean"] and age["statistics"]["missing"] > 0

    # Of rows that it has not seen, most get what they have.
    fresh = passengers(800)[400:]
    instances = [encoded(config["columns"], dict(zip(NAMES, row, strict=True))) for row in fresh]
    status, answer = post(server, "/v1/models/passengers:predict", {"instances": instances})
    assert status == 200, answer
    given = np.ravel(answer["predictions"]) > 0.5
    assert np.mean(given == [row[-1] == "yes" for row in fresh]) > 0.9

    # Trained again it is the next version, next to the first; the same seed gives the same weights.
    run(*arguments, "--seed", 7)
    wait_for(server, "passengers", 2)
    files = [models / "passengers" / version / "model.safetensors" for version in ("1", "2")]
    assert files[0].read_bytes() == files[1].read_bytes()
    run(*arguments, "--seed", 8)
    wait_for(server, "passengers", 3)
    assert files[0].read_bytes() != (models / "passengers" / "3" / "model.safetensors").read_bytes()
    assert sorted(entry.name for entry in models.iterdir()) == ["hello-keras", "passengers"]


class Links(html.parser.HTMLParser):
    """What a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_one_page_that_tells_what_hurts(run: Run, tmp_path: Path, models: Path) -> None:
    random = np.random.default_rng(1)
    size = random.normal(0, 1, 200)
    is_large = size + random.normal(0, 0.8, 200) > 0
    table = [
        [size, 7, size, 2 * size + 1, "after" if large else "before", "<b>large</b>" if large else "small & 'x'"]
        for size, large in zip(size.tolist(), is_large, strict=True)
    ]
    path = write(tmp_path / "t.csv", ["size", "seven", "again", "doubled", "late", "class"], table)
    done = run("train", path, "--target", "class", "--out", models / "t", "--epochs", 20)
    for warning in [
        'column "seven" is constant',
        'column "again" is a duplicate of column "size": the same',
        'column "doubled" is a duplicate of column "size" in another unit',
        'column "late" leaks the target: alone it reaches accuracy 1.0000',
    ]:
        assert warning in done.stdout
    assert 'column "size" leaks' not in done.stdout
    page = Links()
    page.feed((models / "t" / "1" / "report.html").read_text())
    assert page.loaded == [] and "script" not in page.tags and "b" not in page.tags
    assert page.tags.count("svg") == 4
    assert "<b>large</b>" in page.text and "small & 'x'" in page.text
    assert 'column "seven" is constant' in page.text
    summary = json.loads((models / "t" / "1" / "training.json").read_text())
    assert summary["score"]["accuracy"] == float(re.search(r"accuracy (\S+)", done.stdout)[1])
    assert len(summary["history"]) == 20


def training(program: str, tmp_path: Path, *arguments: object) -> tuple[subprocess.Popen, Callable[[], str]]:
    """A training under way, and what it has said so far."""
    said = tmp_path / "said"
    with said.open("w") as file:
        process = start([program, "train", *map(str, arguments)], stdout=file, stderr=file)
    return process, said.read_text


def test_an_interrupt_keeps_the_best_so_far_and_a_second_leaves_nothing(
    program: str, tmp_path: Path, models: Path
) -> None:
    path = write(tmp_path / "p.csv", NAMES, passengers(2000))
    arguments = [path, "--target", "survived", "--ignore", "name", "--patience", 0]
    process, said = training(program, tmp_path, *arguments, "--out", models / "kept", "--epochs", 1_000_000)
    wait_until(lambda: "epoch 1/" in said(), 60, "the first epoch")
    assert end(process, signal.SIGINT, 60) == 0, said()
    assert "stopped as asked" in said()
    assert (models / "kept" / "1" / "report.html").is_file()

    # An epoch that takes long: one row a batch, and many units.
    slow = ["--batch-size", 1, "--layers", "2048:relu,2048:relu"]
    process, said = training(program, tmp_path, *arguments, *slow, "--out", models / "nothing")
    wait_until(lambda: "so the task is" in said(), 60, "the table is read")

    def has_ended() -> bool:
        process.send_signal(signal.SIGINT)
        return process.poll() is not None

    wait_until(has_ended, 60, "it ends")
    assert end(process) == 130, said()
    assert "interrupted; nothing was written" in said()
    assert sorted(entry.name for entry in models.iterdir()) == ["hello-keras", "kept"]
