"""The tests, by what they hold. Importing this registers all of them, in the order in which they run."""

from promises import (
    malformed,
    framing,
    bodies,
    slow_clients,
    disconnects,
    answers,
    overload,
    stopping,
    replicas,
    metrics,
    exhaustion,
    logs,
    clock,
    faults,
    broken_models,
)

__all__ = [
    "malformed",
    "framing",
    "bodies",
    "slow_clients",
    "disconnects",
    "answers",
    "overload",
    "stopping",
    "replicas",
    "metrics",
    "exhaustion",
    "logs",
    "clock",
    "faults",
    "broken_models",
]
