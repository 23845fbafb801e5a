"""Why a model is not exported."""

from collections.abc import Sequence
from dataclasses import dataclass


class ExportError(Exception):
    """A model cannot be exported; the message says where, what was expected and what is there."""


NO_COUNTERPART = "the server has no such thing"
"""The reason of a fault for which the message lists what there is."""


@dataclass(frozen=True)
class Fault:
    """A part of a model that the server has no counterpart for."""

    place: str
    """Its name in the model: a layer's, an fx node's, a step's of a pipeline."""
    kind: str
    """Its class or function."""
    reason: str
    """Why it cannot be exported."""

    def __str__(self) -> str:
        return f"{self.place!r} ({self.kind}): {self.reason}"


class UnsupportedError(ExportError):
    """Parts of a model have no counterpart in the server. `faults` holds all of them; nothing was
    written."""

    def __init__(self, model: str, faults: Sequence[Fault], supported: Sequence[str]) -> None:
        self.faults = tuple(faults)
        parts = "1 part" if len(faults) == 1 else f"{len(faults)} parts"
        lines = "".join(f"\n  {fault}" for fault in faults)
        if any(fault.reason == NO_COUNTERPART for fault in faults):
            lines += f"\nthe server has: {', '.join(supported)}"
        super().__init__(f"{model}: {parts} cannot be exported:{lines}")


class CheckError(ExportError):
    """An exported model does not answer as the original does, or the server refuses it. Its files are
    removed."""


def first_line(error: Exception) -> str:
    """The first line of another library's error, or its kind if it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
