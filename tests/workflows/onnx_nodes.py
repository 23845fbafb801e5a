#!/usr/bin/env python3
"""The ONNX project's own tests of its operators, against `safeserve import` and `safeserve check --compare`.

    tests/workflows/run onnx_nodes                                 all of them; fails if one fails
    target/workflows/venv/bin/python tests/workflows/onnx_nodes.py --docs     writes docs/operators.md

Each test is a small model with inputs and the outputs that it must give. Axis 0 of what is served is the
rows, so of a test's inputs one or more become rows, and the others weights: every way in which the import
accepts the model has to give the test's outputs. A test that it accepts in no way is not claimed, with
the reason in the import's own words.
"""

import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "operators.md"
FLOATS = (np.float32, np.float64, np.float16)

# As `check --compare` has it. The tests themselves allow 1e-3, which is what floats of 16 bits hold.
TOLERANCES = {np.dtype(np.float16): "1e-3"}
TOLERANCE = "1e-5"


@dataclass
class Outcome:
    """What became of one test."""

    operator: str
    test: str
    state: str  # pass, fail or not claimed
    reason: str = ""


def cases() -> list:
    with warnings.catch_warnings():
        # The tests' own arithmetic at the edges of floats.
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return [case for case in load_model_tests(kind="node") if case.model is not None]


def claimed(program: str) -> set[str]:
    done = subprocess.run([program, "import", "--operators"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def name_of(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def operators(all_cases: list) -> dict[str, str]:
    """By test: the operator that it is of. Tests named `_expanded` have it as what it is made of."""
    of_one = {case.name: name_of(case.model.graph.node[0]) for case in all_cases if len(case.model.graph.node) == 1}
    named = {}
    for case in all_cases:
        base = re.sub(r"_expanded(_ver\d+)?$", "", case.name)
        named[case.name] = of_one.get(case.name) or of_one.get(base) or "several"
    return named


def with_weights(model: onnx.ModelProto, values: dict[str, np.ndarray], rows: tuple[str, ...]) -> onnx.ModelProto:
    """The model with all inputs but `rows` as initializers."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.input[:]
    for given in model.graph.input:
        if given.name in rows:
            changed.graph.input.append(given)
        elif given.name in values:
            changed.graph.initializer.append(numpy_helper.from_array(values[given.name], given.name))
    return changed


def ways(values: dict[str, np.ndarray]) -> list[tuple[str, ...]]:
    """Which inputs may be rows together: floats that have as many."""
    able = [name for name, value in values.items() if value.dtype in FLOATS and value.ndim > 0 and len(value) > 0]
    return [
        chosen
        for size in range(len(able), 0, -1)
        for chosen in combinations(able, size)
        if len({len(values[name]) for name in chosen}) == 1
    ]


def outcome(case: object, operator: str, known: set[str], program: str) -> Outcome:
    if operator not in known:
        return Outcome(operator, case.name, "not claimed", "the engine has no such operator")
    reasons, accepted = {}, 0
    for inputs, outputs in case.data_sets:
        given, outputs = arrays(inputs), arrays(outputs)
        if given is None or outputs is None:
            return Outcome(operator, case.name, "not claimed", "its values are no arrays of numbers")
        names = [value.name for value in case.model.graph.input]
        values = dict(zip(names, given, strict=True))
        possible = ways(values)
        if not possible:
            reasons[()] = "it has no input of floats with rows"
        for rows in possible:
            problem, refused = attempt(case.model, values, outputs, rows, program)
            if refused:
                reasons[rows] = problem
            elif problem:
                return Outcome(operator, case.name, "fail", f"rows {', '.join(rows)}: {problem}")
            else:
                accepted += 1
    if accepted:
        return Outcome(operator, case.name, "pass")
    # The reason of the first input alone as rows, if it can be: as the operator is meant to be served.
    by_sense = sorted(reasons, key=lambda rows: (rows != (case.model.graph.input[0].name,), len(rows)))
    return Outcome(operator, case.name, "not claimed", reasons[by_sense[0]] if reasons else "it has no data")


def arrays(values: list) -> list[np.ndarray] | None:
    """Values as arrays; nothing for sequences, optional values and types that are no numbers of NumPy."""
    found = []
    for value in values:
        if isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        value = np.asarray(value) if isinstance(value, np.generic) else value
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            return None
        found.append(value)
    return found


def attempt(
    model: onnx.ModelProto,
    values: dict[str, np.ndarray],
    outputs: list[np.ndarray],
    rows: tuple[str, ...],
    program: str,
) -> tuple[str, bool]:
    """One way of serving a test: what is wrong, if anything, and whether the import refused it."""
    with tempfile.TemporaryDirectory() as folder:
        file, repository = Path(folder, "model.onnx"), Path(folder, "models")
        onnx.save(with_weights(model, values, rows), file)
        repository.mkdir()
        if not all(np.isfinite(value).all() for value in [*(values[name] for name in rows), outputs[0]]):
            return "its numbers are not finite, which answers here must be", True
        # Some operators have more outputs, for training; what they compute is the first.
        output = model.graph.output[0].name
        done = run(program, "import", file, "--out", repository / "node", "--output", output)
        message = done.stderr.strip().removeprefix("safeserve: ").replace(str(file), "the file")
        if done.returncode not in (0, 1) or "does not load" in message:
            return f"exit code {done.returncode}: {message[-300:]}", False
        if done.returncode == 1:
            return message, True
        expected = {f"input.{name}": contiguous(values[name]) for name in rows}
        expected[f"output.{output}"] = contiguous(outputs[0])
        save_file(expected, Path(folder, "expected.safetensors"))
        tolerance = TOLERANCES.get(outputs[0].dtype, TOLERANCE)
        compare = ("--compare", Path(folder, "expected.safetensors"), "--tolerance", tolerance)
        done = run(program, "check", *compare, repository)
        return ("" if done.returncode == 0 else done.stdout.strip()[-300:] + done.stderr.strip()[-300:]), False


def contiguous(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value, dtype=np.float64 if value.dtype == np.float64 else np.float32)


def run(program: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def outcomes(program: str) -> list[Outcome]:
    all_cases = cases()
    known, named = claimed(program), operators(all_cases)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda case: outcome(case, named[case.name], known, program), all_cases)
        return sorted(found, key=lambda outcome: (outcome.operator.lower(), outcome.test))


def table(found: list[Outcome], known: set[str]) -> list[tuple[str, int, int, int]]:
    """By operator: passed, failed, not claimed. Operators without a test have zeros."""
    states: dict[str, Counter] = defaultdict(Counter, {name: Counter() for name in known})
    for outcome in found:
        states[outcome.operator][outcome.state] += 1
    rows = [(name, count["pass"], count["fail"], count["not claimed"]) for name, count in states.items()]
    return sorted(rows, key=lambda row: row[0].lower())


def kind_of(reason: str) -> str:
    """A reason without what differs between tests."""
    reason = re.sub(r'^node "[^"]*" \(\w+\): ', "", reason)
    reason = re.sub(r"^(in|out)put \"[^\"]*\": ", r"\1put: ", reason)
    reason = re.sub(r"the engine lacks operators of this model: (.*?); it has.*", r"made of operators that the engine lacks: \1", reason)
    reason = re.sub(r"\(\"[^\"]*\"\) ", "", reason)
    reason = re.sub(r"(got|begins with|numbers, and a row has|gives each row) -?\d+", r"\1 ..", reason)
    return re.sub(r"\[[-\d, ]*\]", "[..]", reason)


def document(found: list[Outcome], known: set[str]) -> str:
    rows = table(found, known)
    of_known = [row for row in rows if row[0] in known]
    others = [row[0] for row in rows if row[0] not in known and row[0] != "several"]
    lines = [
        "# Operators",
        "",
        "What networks of family [`graph`](models.md#configjson-of-family-graph) can have, and with them what",
        "[`safeserve import`](importing.md) takes. Written by `tests/workflows/onnx_nodes.py --docs`, which runs the",
        f"ONNX project's own tests of its operators (onnx {onnx.__version__}): {sum(row[1] for row in rows)} pass within "
        f"1e-5 (of 16-bit outputs 1e-3), "
        f"{sum(row[2] for row in rows)} fail.",
        "",
        "A test is *not claimed* where the import refuses it: it mixes rows (axis 0), or is of other types than",
        "floats, for example. The reasons are below.",
        "",
        "| Operator | Pass | Fail | Not claimed |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{name}` | {passed} | {failed} | {refused} |" for name, passed, failed, refused in of_known]
    lines += ["", "## Why tests of these operators are not claimed", ""]
    reasons: dict[str, set[str]] = defaultdict(set)
    counts: Counter = Counter()
    for outcome in found:
        if outcome.state == "not claimed" and outcome.operator in known:
            kind = kind_of(outcome.reason)
            reasons[kind].add(outcome.operator)
            counts[kind] += 1
    lines += ["| Reason | Tests | Operators |", "|---|---|---|"]
    for kind, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        names = ", ".join(f"`{name}`" for name in sorted(reasons[kind], key=str.lower))
        shown = kind.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {shown} | {counts[kind]} | {names} |")
    lines += ["", "## Operators that the engine does not have", ""]
    lines.append(", ".join(f"`{name}`" for name in others) + ".")
    return "\n".join(lines) + "\n"


def main() -> int:
    program = os.environ.get("SAFESERVE", str(ROOT / "target" / "release" / "safeserve"))
    found = outcomes(program)
    known = claimed(program)
    for name, passed, failed, refused in table(found, known):
        print(f"{name:32} {passed:4} pass {failed:4} fail {refused:4} not claimed")
    failures = [outcome for outcome in found if outcome.state == "fail"]
    for outcome in failures:
        print(f"FAIL {outcome.test}: {outcome.reason}")
    if "--docs" in sys.argv[1:]:
        DOCUMENT.write_text(document(found, known))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
