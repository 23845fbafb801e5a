"""The program `safeserve`: finding it, and having it compare a model with the original's answers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .errors import CheckError, ExportError

CHECK_SECONDS = 600
"""How long a comparison may take: loading 10 GB from a slow disk takes a tenth of that."""

SAID = ("output ", "every answer ")
"""How the lines begin that say how the comparison went."""


def find(program: str | os.PathLike[str] | None = None) -> str:
    """The path of the program: the one given, that of the environment variable `SAFESERVE`, or
    `safeserve` on the `PATH`."""
    given = os.fspath(program) if program is not None else os.environ.get("SAFESERVE") or None
    found = shutil.which(given if given is not None else "safeserve")
    if found is not None:
        return found
    if given is not None:
        source = "the program given" if program is not None else "the environment variable SAFESERVE"
        raise ExportError(f"{source}, {given!r}, is no program that can be run")
    raise ExportError(
        "the program 'safeserve', which checks an export by running it, is not on the PATH; build it "
        "with 'cargo build --release', then put target/release on the PATH or set SAFESERVE to its "
        "path; or export without a check (check=False, --no-check)"
    )


def compare(program: str, model: Path, answers: Path, tolerance: float) -> str:
    """Has the program run the model and compare; what it says of each output. Raises `CheckError` if the answers
    differ by more than `tolerance + tolerance * |expected|`, or the model is refused."""
    command = [program, "check", "--compare", os.fspath(answers), "--tolerance", repr(tolerance)]
    # Settings for the server that this machine runs would choose its models here.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SAFESERVE__")}
    try:
        done = subprocess.run(
            [*command, os.fspath(model)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_SECONDS,
        )
    except OSError as error:
        raise ExportError(f"the program {program!r} cannot be run: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise CheckError(f"the check did not end within {CHECK_SECONDS} s") from error
    if done.returncode == 0:
        # After the table of models and the name of a file that is about to be moved.
        return "".join(line for line in done.stdout.splitlines(True) if line.startswith(SAID))
    said = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if line.strip())
    raise CheckError(f"the exported model does not pass its check; nothing was left behind:\n{said}")
