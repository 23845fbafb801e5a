"""A model's directory, written next to its place and moved in when it is complete and checked."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from . import program as safeserve
from .errors import ExportError
from .model import Array, Json, Model

CHECK_FILE = "check.safetensors"
"""Next to each model: the rows that it was compared on and the original's answers."""

NAME = re.compile(r"[A-Za-z0-9-][A-Za-z0-9_.-]{0,127}")
"""What the server takes for a model's name."""

VERSION = re.compile(r"[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Exported:
    """A model version that was written."""

    path: Path
    """Its directory: `config.json`, `model.safetensors`, `example.json` and `check.safetensors`."""
    name: str
    version: int
    report: str
    """What the check printed: how far each output is off. Empty without a check."""


@dataclass(frozen=True)
class Place:
    """Where a model goes: `models/<name>`, in the version asked for or in the next one."""

    directory: Path
    asked: int | None

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Place:
        """`models/NAME`, for the next version, or `models/NAME/VERSION`."""
        # Neither resolved nor normal: a link to a model is that model's name.
        full = Path(os.path.abspath(path))
        asked = None
        if VERSION.fullmatch(full.name) and full.parent.name:
            full, asked = full.parent, int(full.name)
        if not NAME.fullmatch(full.name):
            raise ExportError(
                f"{os.fspath(path)}: {full.name!r} is no name for a model; expected up to 128 letters, "
                "digits, '_', '.' and '-', not beginning with '.' or '_'"
            )
        place = cls(full, asked)
        place.next_version()
        return place

    def next_version(self) -> int:
        """The version to write: 1 for a new model, else the one after the newest."""
        if not self.directory.exists():
            return self.asked or 1
        if not self.directory.is_dir():
            raise ExportError(f"{self.directory}: expected a directory, it is something else")
        entries = [entry.name for entry in self.directory.iterdir()]
        own = [name for name in ("config.json", "model.safetensors") if name in entries]
        if own:
            raise ExportError(
                f"{self.directory}: holds {own[0]} of a model without versions, which cannot have versions "
                f"too; move its files to {self.directory}/1, or give another name"
            )
        versions = {int(name) for name in entries if VERSION.fullmatch(name)}
        if self.asked in versions:
            raise ExportError(
                f"{self.directory}/{self.asked}: is there already; give a version that is not, or only "
                f"{self.directory} for the next"
            )
        return self.asked or max(versions, default=0) + 1


def publish(
    model: Model,
    path: str | os.PathLike[str],
    check: bool,
    tolerance: float,
    program: str | os.PathLike[str] | None,
) -> Exported:
    """Writes a model, has the program compare it, and moves it to its place in one step, so that a
    running server never sees an incomplete one. If anything fails, the directory is removed."""
    if not 0 <= tolerance < float("inf"):
        raise ExportError(f"tolerance: expected a number from 0 on, got {tolerance!r}")
    place = Place.of(path)
    found = safeserve.find(program) if check else None
    try:
        place.directory.parent.mkdir(parents=True, exist_ok=True)
        hidden = tempfile.mkdtemp(prefix=f".{place.directory.name}.", dir=place.directory.parent)
        try:
            staged = Path(hidden, place.directory.name)
            version = staged / str(place.next_version())
            version.mkdir(parents=True)
            _write(model, version)
            report = ""
            if found is not None:
                report = safeserve.compare(found, staged, version / CHECK_FILE, tolerance)
            final = _move(version, place)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    except OSError as error:
        where = error.filename or place.directory
        raise ExportError(f"{where}: {error.strerror or error}") from error
    return Exported(final, place.directory.name, int(final.name), report)


def _write(model: Model, directory: Path) -> None:
    (directory / "config.json").write_text(_pretty(model.config), encoding="utf-8")
    _save(model.weights, directory / "model.safetensors")
    (directory / "example.json").write_text(json.dumps(_request(model.example)) + "\n", encoding="utf-8")
    inputs = {f"input.{name}": rows for name, rows in model.inputs.items()}
    _save(inputs | {f"output.{name}": rows for name, rows in model.answers.items()}, directory / CHECK_FILE)


def _save(tensors: Mapping[str, Array], file: Path) -> None:
    # Always in C order: `save_file` writes the memory as it lies, and scikit-learn keeps some arrays in
    # Fortran order.
    ordered = {name: np.array(tensor, order="C", copy=True) for name, tensor in tensors.items()}
    save_file(ordered, file)
    # It makes the file readable by its owner only; like the others the server must be able to read it.
    umask = os.umask(0)
    os.umask(umask)
    file.chmod(0o666 & ~umask)


def _move(version: Path, place: Place) -> Path:
    """Moves a complete version to its place: with the model's directory if there is none yet."""
    while True:
        number = place.next_version()
        if version.name != str(number):
            version = version.rename(version.parent / str(number))
        final = place.directory / str(number)
        try:
            if place.directory.exists():
                version.rename(final)
            else:
                version.parent.rename(place.directory)
        except OSError as error:
            # Somebody else was quicker: `next_version` finds another number or refuses this one.
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                continue
            raise
        return final


def _request(example: Mapping[str, Array]) -> Json:
    """The body of a V1 request for these rows."""
    if len(example) == 1:
        [rows] = example.values()
        return {"instances": _plain(rows)}
    columns = {name: _plain(rows) for name, rows in example.items()}
    return {"instances": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def _plain(rows: Array) -> Any:
    """Nested lists of the shortest decimal numbers that are these 32-bit ones."""
    if rows.ndim == 0:
        number = float(str(rows))
        return int(number) if number.is_integer() and abs(number) < 1e15 else number
    return [_plain(np.asarray(row)) for row in rows]


def _pretty(config: Json) -> str:
    """JSON with a line for each layer of the sequential family, indented for Keras."""
    if config.get("model_type") != "sequential":
        return json.dumps(config, indent=1) + "\n"
    lines = []
    for key, value in config.items():
        if key == "layers":
            layers = ",\n".join(f"    {json.dumps(layer)}" for layer in value)
            lines.append(f'  "layers": [\n{layers}\n  ]')
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
