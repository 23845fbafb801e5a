"""The command line: `python -m safeserve_export model.keras models/NAME`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import Exported, ExportError, __version__, export_keras, export_sklearn, export_torch, files
from .model import TASKS, Task

DESCRIPTION = """\
Exports a model for safeserve: a .keras or .h5 file of Keras, a whole module of PyTorch (.pt, .pth), or an
estimator of scikit-learn (.joblib, .pkl). The model's directory is written completely, checked by running it
with `safeserve check --compare`, and then moved to its place; a model that is there already gets the next
version. What cannot be exported is named, all at once, and nothing is written.
"""

EPILOG = """\
Files of PyTorch, joblib and pickle may run any code when they are read, and are read only with --trust.

Exit codes: 0 exported; 1 the model cannot be exported or does not pass its check; 2 bad arguments.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit code."""
    options = _parser().parse_args(arguments)
    try:
        exported = _export(options)
    except ExportError as error:
        print(f"safeserve_export: {error}", file=sys.stderr)
        return 1
    print(f"exported {exported.path}, version {exported.version} of {exported.name}")
    print(exported.report.rstrip() if exported.report else "not checked")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m safeserve_export",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="the file that holds the model")
    add("path", metavar="DIR/NAME", help="its directory in the repository, or DIR/NAME/VERSION")
    add("--labels", type=_list, metavar="A,B,...", help="names of the classes, in their order")
    add("--feature-names", type=_list, metavar="A,B,...", help="names of the features, in their order")
    add("--task", choices=TASKS, help="what the first output means")
    add("--threshold", type=_number, metavar="T", help="of a binary classifier: class 1 is what is over it")
    add("--description", metavar="TEXT", help="what the model does, for people")
    add(
        "--example",
        type=Path,
        metavar="FILE",
        help="rows for example.json: .npy, .npz or .json; PyTorch needs it",
    )
    add("--check-rows", type=Path, metavar="FILE", help="rows to compare by, instead of rows that are made up")
    add("--no-check", action="store_true", help="do not run what was exported")
    add(
        "--tolerance",
        type=_number,
        default=1e-5,
        metavar="T",
        help="how far an answer a may be off: T + T |a|",
    )
    add("--safeserve", metavar="PROGRAM", help="the program that checks (default: $SAFESERVE, or the PATH's)")
    add("--trust", action="store_true", help="read a file that may run code")
    add("--version", action="version", version=f"safeserve-export {__version__}")
    return parser


def _list(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a finite number, got {text!r}")
    return number


def _export(options: argparse.Namespace) -> Exported:
    kind = files.framework(options.model)
    if kind == "torch" and options.example is None:
        raise ExportError(
            f"{options.model}: a module of PyTorch does not say what it takes; give rows by --example FILE"
        )
    keywords: dict[str, Any] = {
        "labels": options.labels,
        "feature_names": options.feature_names,
        "task": _task(options),
        "description": options.description,
        "example": None if options.example is None else files.rows(options.example),
        "check_rows": None if options.check_rows is None else files.rows(options.check_rows),
        "check": not options.no_check,
        "tolerance": options.tolerance,
        "program": options.safeserve,
    }
    model = files.load(options.model, options.trust)
    export: Any = {"keras": export_keras, "torch": export_torch, "sklearn": export_sklearn}[kind]
    exported: Exported = export(model, options.path, **keywords)
    return exported


def _task(options: argparse.Namespace) -> Task | None:
    if options.threshold is None:
        return options.task  # type: ignore[no-any-return]
    if options.task not in (None, "binary-classification"):
        raise ExportError(f"--threshold: only a binary-classification has one, the task is {options.task}")
    return {"type": "binary-classification", "threshold": options.threshold}


if __name__ == "__main__":
    sys.exit(main())
