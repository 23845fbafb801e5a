"""`safeserve predict`: a million rows in little memory, every row accounted for, and runs that are killed."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest

from conftest import ROOT, post

MODELS = ROOT / "models"
ROWS = 1_000_000
MAX_RESIDENT_KIB = 300 << 10


def write_rows(path: Path, rows: int) -> tuple[dict[int, str], int]:
    """Writes rows of iris, some bad, some with a line end in a cell; gives the bad lines with the column at
    fault, and how many lines there are."""
    bad, line = {}, 2
    with path.open("w", newline="") as file:
        file.write("id,petal_width,petal_length,sepal_width,sepal_length,note\n")
        for row in range(rows):
            values = [f"{0.1 + (row * k % 70) / 10:.1f}" for k in (1, 3, 7, 11)]
            note = "n"
            if row % 1000 == 17:
                values[row // 1000 % 4] = ("x", "", "1e99")[row // 1000 % 3]
                bad[line] = ("petal_width", "petal_length", "sepal_width", "sepal_length")[row // 1000 % 4]
            elif row % 1000 == 18:
                values = values[:3]
                bad[line] = ""
            elif row % 1000 == 19:
                note = '"two\nlines, ""quoted"""'
            file.write(f"{row},{','.join(values)},{note}\n")
            line += 1 + note.count("\n")
    return bad, line - 1


# What a process held before it became the program counts as the program's most (Linux keeps it over exec),
# and the tests' own process holds TensorFlow; so the program is started by one that holds nothing.
STARTER = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


def measured(command: list[str]) -> tuple[int, int]:
    """Runs a command; gives its exit code and the most memory that it had, in KiB."""
    starter = [sys.executable, "-S", "-c", STARTER, *command]
    code, resident = subprocess.run(starter, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return int(code), int(resident)


def command(program: str, source: Path, out: Path, *more: str) -> list[str]:
    options = ["--models", str(MODELS), "--model", "iris", "--keep", "id"]
    return [program, "predict", *options, str(source), "--out", str(out), *more]


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, str]]:
    path = tmp_path_factory.mktemp("million") / "rows.csv"
    bad, _ = write_rows(path, ROWS)
    return path, bad


def test_a_million_rows_in_little_memory_and_each_is_accounted_for(program, million, serve, tmp_path):
    source, bad = million
    out = tmp_path / "scored.csv"
    code, resident = measured(command(program, source, out))
    assert code == 1 and resident < MAX_RESIDENT_KIB, (code, resident)

    with (tmp_path / "scored.csv.errors.csv").open(newline="") as file:
        faults = {int(fault["line"]): fault["column"] for fault in csv.DictReader(file)}
    assert faults == bad
    with out.open(newline="") as file:
        scored = list(csv.DictReader(file))
    assert len(scored) + len(bad) == ROWS
    assert {int(row["id"]) for row in scored}.isdisjoint(
        row for row in range(ROWS) if row % 1000 in (17, 18)
    )
    assert len({row["id"] for row in scored}) == len(scored)

    # What the server says of the same rows, to the last digit.
    server = serve(MODELS)
    for row in scored[:: ROWS // 200]:
        number = int(row["id"])
        values = [0.1 + (number * k % 70) / 10 for k in (11, 7, 3, 1)]
        instance = [round(value, 1) for value in values]
        _, answer = post(server, "/v1/models/iris:predict", {"instances": [instance]})
        labels = ("setosa", "versicolor", "virginica")
        assert [float(row[f"probabilities[{label}]"]) for label in labels] == answer["predictions"][0]
        best = max(range(3), key=answer["predictions"][0].__getitem__)
        assert (row["class_id"], row["label"]) == (str(best), labels[best])


def test_a_run_that_is_killed_goes_on_to_the_same_bytes(program, million, tmp_path):
    source, _ = million
    whole, out = tmp_path / "whole.csv", tmp_path / "killed.csv"
    subprocess.run(command(program, source, whole, "--quiet"), stderr=subprocess.DEVNULL, check=False)
    # It is let run for a moment at a time, so that it is in the middle when its journal comes, a second
    # after the first rows, however fast the machine is.
    process = subprocess.Popen(command(program, source, out, "--threads", "1"), stderr=subprocess.DEVNULL)
    part, journal = tmp_path / "killed.csv.part", tmp_path / "killed.csv.journal"
    deadline = time.monotonic() + 60
    while not journal.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.02)
        process.send_signal(signal.SIGCONT)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was killed before its end"
    noted = json.loads(journal.read_text())
    assert 0 < noted["tally"]["rows"] < ROWS and not out.exists()

    refused = subprocess.run(command(program, source, out), capture_output=True, text=True)
    assert refused.returncode == 2 and "--resume" in refused.stderr
    elsewhere = command(program, source, out, "--resume", "--errors", str(tmp_path / "elsewhere.csv"))
    moved = subprocess.run(elsewhere, capture_output=True, text=True)
    assert moved.returncode == 2 and "--errors names another file" in moved.stderr
    other = command(program, source, out, "--resume")
    other[other.index("id")] = "note"
    changed = subprocess.run(other, capture_output=True, text=True)
    assert changed.returncode == 2 and "other columns" in changed.stderr

    # As a kill between the two renames at the end leaves them.
    faults = tmp_path / "killed.csv.errors.csv"
    faults.with_name(faults.name + ".part").rename(faults)

    resumed = subprocess.run(command(program, source, out, "--resume"), capture_output=True, text=True)
    assert resumed.returncode == 1 and f"going on behind {noted['tally']['rows']} rows" in resumed.stderr
    assert f"{ROWS} rows in = " in resumed.stderr
    assert out.read_bytes() == whole.read_bytes()
    errors = [path.with_name(path.name + ".errors.csv").read_bytes() for path in (out, whole)]
    assert errors[0] == errors[1]
    assert not journal.exists() and not part.exists()

    # As a kill after both renames leaves them, and one in the first second, when there is no journal.
    journal.write_text(json.dumps(noted))
    again = subprocess.run(command(program, source, out, "--resume"), capture_output=True, text=True)
    assert "whole already" in again.stderr and not journal.exists()
    part.write_text("li")
    again = subprocess.run(command(program, source, out, "--resume"), capture_output=True, text=True)
    assert again.returncode == 1 and f"{ROWS} rows in = " in again.stderr and not part.exists()
    assert out.read_bytes() == whole.read_bytes()


def test_an_output_that_is_there_is_left_alone(run, tmp_path):
    source, out = tmp_path / "rows.ndjson", tmp_path / "scored.ndjson"
    source.write_text("[5.1, 3.5, 1.4, 0.2]\n\n" + '{"sepal_length": 1}\n')
    arguments = ["predict", "--models", MODELS, "--model", "iris", source, "--out", out]
    done = run(*arguments, code=1)
    assert "2 rows in = 1 rows scored + 1 rows bad" in done.stderr and "1 blank lines" in done.stderr
    assert json.loads(out.read_text())["label"] == "setosa"
    assert "3,sepal_width,missing_input," in (tmp_path / "scored.ndjson.errors.csv").read_text()
    assert "--overwrite" in run(*arguments, code=2).stderr
    run(*arguments, "--overwrite", code=1)
    assert "whole already" in run(*arguments, "--resume").stderr


def test_files_that_are_one_and_bad_rows_that_are_there_are_refused(run, tmp_path):
    source, out, linked = tmp_path / "rows.ndjson", tmp_path / "out.csv", tmp_path / "linked.csv"
    source.write_text("[5.1, 3.5, 1.4, 0.2]\n")
    linked.symlink_to(source)
    (tmp_path / "below").mkdir()
    options = ["predict", "--models", MODELS, "--model", "iris", source, "--overwrite"]
    to_csv = ["--to", "csv"]
    for arguments in (
        ["--out", source],
        ["--out", linked],
        ["--out", out, "--errors", source],
        ["--out", out, "--errors", linked],
        ["--out", out, "--errors", out],
        ["--out", out, "--errors", tmp_path / "below" / ".." / "out.csv.part"],
        ["--out", "-", "--errors", source],
    ):
        assert "got one for" in run(*options, *arguments, *to_csv, code=2).stderr, arguments
        assert source.read_text() == "[5.1, 3.5, 1.4, 0.2]\n" and not out.exists()

    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    for arguments in (["--out", out], ["--out", out, "--resume"], ["--out", "-"]):
        error = run(*options[:-1], *arguments, "--errors", notes, code=2).stderr
        assert "notes.txt, which exists already" in error and notes.read_text() == "mine"
    run(*options, "--out", "-", "--errors", notes)
    assert notes.read_text() == "line,column,code,message\n"


def test_a_long_line_is_one_row(run, tmp_path):
    source, out = tmp_path / "rows.ndjson", tmp_path / "out.csv"
    row = "[5.1, 3.5, 1.4, 0.2]"
    source.write_text(f"{row}\n{row}{' ' * (2 << 20)}\n{row}{' ' * (65 << 20)}\n{row}\n")
    arguments = ["predict", "--models", MODELS, "--model", "iris", source, "--out", out]
    assert "4 rows in = 3 rows scored + 1 rows bad" in run(*arguments, code=1).stderr
    assert '3,"",too_long,' in (tmp_path / "out.csv.errors.csv").read_text()


def test_a_file_without_the_models_columns_is_refused_with_their_names(run, tmp_path):
    source = tmp_path / "rows.csv"
    source.write_text("sepal_lenght,sepal_width,petal_length,petal_width\n1,2,3,4\n")
    options = ["predict", "--models", MODELS, "--model", "iris", source, "--out", tmp_path / "out.csv"]
    error = run(*options, code=2).stderr
    assert '"sepal_length" (is it "sepal_lenght"?)' in error
    assert not list(tmp_path.glob("out*"))


def test_parquet_has_the_answers_of_csv(run, program, tmp_path):
    source = tmp_path / "rows.csv"
    write_rows(source, 5000)
    good = pandas.read_csv(source, on_bad_lines="skip").apply(pandas.to_numeric, errors="coerce")
    good = good.dropna(subset=["petal_width", "petal_length", "sepal_width", "sepal_length"])
    good = good[good.select_dtypes("number").abs().max(axis=1) < 1e30].drop(columns="note")
    good.to_csv(tmp_path / "good.csv", index=False)
    good.loc[good.index[7], "petal_width"] = None
    good.to_parquet(tmp_path / "good.parquet")
    options = ["predict", "--models", MODELS, "--model", "iris", "--keep", "id", "--no-line"]
    run(*options, tmp_path / "good.csv", "--out", tmp_path / "a.csv")
    run(*options, tmp_path / "good.parquet", "--out", tmp_path / "b.parquet", code=1)
    csv_rows, parquet_rows = pandas.read_csv(tmp_path / "a.csv"), pandas.read_parquet(tmp_path / "b.parquet")
    assert "8,petal_width,wrong_type," in (tmp_path / "b.parquet.errors.csv").read_text()
    csv_rows = csv_rows.drop(index=7).reset_index(drop=True)
    assert list(csv_rows.columns) == list(parquet_rows.columns)
    assert (csv_rows["label"] == parquet_rows["label"]).all() and len(parquet_rows) == len(good) - 1
    for column in csv_rows.columns[1:4]:
        assert (csv_rows[column].astype("float32") == parquet_rows[column]).all()


def test_gnu_parallel_gives_the_rows_of_one_run(program, run, tmp_path):
    if shutil.which("parallel") is None:
        subprocess.run(["apt-get", "install", "-qq", "parallel"], check=True, stdout=subprocess.DEVNULL)
    assert shutil.which("parallel"), "GNU parallel is needed for the page's example"
    page = (ROOT / "docs" / "batch.md").read_text()
    (block,) = [b for b in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "\nparallel --pipepart" in b]
    with (tmp_path / "rows.csv").open("w") as file:
        file.write("id,petal_width,petal_length,sepal_width,sepal_length\n")
        file.writelines(f"{row},{row % 7},{row % 5},{row % 3},1.5\n" for row in range(20_000))
    (tmp_path / "safeserve").symlink_to(Path(program).resolve())
    (tmp_path / "models").symlink_to(MODELS)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-eo", "pipefail", "-c", block], cwd=tmp_path, env=environment, check=True)
    options = ["predict", "--models", MODELS, "--model", "iris", "--no-line", "--keep", "id"]
    run(*options, tmp_path / "rows.csv", "--out", tmp_path / "one.csv")
    assert (tmp_path / "scored.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert len(list(tmp_path.glob("bad.*.csv"))) > 2, "there was one piece only"
