"""Files that the command line reads: models, and rows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ExportError, first_line
from .model import Rows

KERAS = (".keras", ".h5", ".hdf5")
TORCH = (".pt", ".pth")
SKLEARN = (".joblib", ".pkl", ".pickle")

H5_IS_SAFE = (3, 11, 3)
"""The first Keras whose safe mode holds for HDF5 files too (CVE-2025-9905)."""

TRUST = "holds a pickle, which may run any code when it is read; say --trust if you know where it comes from"


def framework(file: Path) -> str:
    """`keras`, `torch` or `sklearn`, by the file's ending."""
    ending = file.suffix.lower()
    for name, endings in (("keras", KERAS), ("torch", TORCH), ("sklearn", SKLEARN)):
        if ending in endings:
            return name
    known = ", ".join((*KERAS, *TORCH, *SKLEARN))
    raise ExportError(f"{file}: unknown kind of file {ending!r}; expected one of {known}")


def load(file: Path, trust: bool) -> Any:
    """The model that a file holds. Pickles, those of PyTorch and joblib among them, are read only if trusted."""
    kind = framework(file)
    if not file.is_file():
        raise ExportError(f"{file}: there is no such file")
    if kind == "keras":
        return _keras(file, trust)
    if not trust:
        raise ExportError(f"{file}: {TRUST}")
    return _torch(file) if kind == "torch" else _sklearn(file)


def _keras(file: Path, trust: bool) -> Any:
    try:
        import keras
    except ImportError as error:
        raise _not_installed(file, "keras") from error
    if file.suffix.lower() != ".keras" and not trust and _version(keras.__version__) < H5_IS_SAFE:
        needed = ".".join(map(str, H5_IS_SAFE))
        raise ExportError(
            f"{file}: Keras {keras.__version__} runs code that a file of this kind holds; update it to {needed}, or "
            "say --trust if you know where the file comes from"
        )
    try:
        # In Keras' safe mode, which reads no code; what only training needs is left out.
        return keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises of any kind.
        raise ExportError(f"{file}: Keras cannot read it: {first_line(error)}") from error


def _version(text: str) -> tuple[int, ...]:
    """The numbers of a version, without any suffix."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else ()


def _torch(file: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise _not_installed(file, "torch") from error
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=False)
    except Exception as error:  # A pickle raises whatever it likes.
        raise ExportError(f"{file}: PyTorch cannot read it: {first_line(error)}") from error
    if isinstance(loaded, torch.nn.Module):
        return loaded
    if isinstance(loaded, dict):
        raise ExportError(
            f"{file}: holds weights (a state_dict) and not the module that they belong to; build the module, load "
            "them into it, and call export_torch"
        )
    raise ExportError(f"{file}: expected a torch.nn.Module, got {type(loaded).__name__}")


def _sklearn(file: Path) -> Any:
    try:
        import joblib
    except ImportError as error:
        raise _not_installed(file, "sklearn") from error
    try:
        return joblib.load(file)
    except Exception as error:  # A pickle raises whatever it likes.
        raise ExportError(f"{file}: joblib cannot read it: {first_line(error)}") from error


def _not_installed(file: Path, extra: str) -> ExportError:
    return ExportError(f"{file}: needs a package that is not installed: pip install 'safeserve-export[{extra}]'")


def rows(file: Path) -> Rows:
    """Rows of a file: `.npy`, `.npz` (an array an input), or `.json` (nested lists, or the body of a V1
    request)."""
    try:
        if file.suffix == ".npy":
            return np.load(file, allow_pickle=False)
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        if file.suffix == ".json":
            return _instances(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{file}: cannot be read as rows: {first_line(error)}") from error
    raise ExportError(f"{file}: unknown kind of file {file.suffix!r}; expected rows in .npy, .npz or .json")


def _instances(body: Any) -> Rows:
    listed = body["instances"] if isinstance(body, dict) and "instances" in body else body
    if isinstance(listed, list) and listed and isinstance(listed[0], dict):
        return {name: [row[name] for row in listed] for name in listed[0]}
    return listed
