"""The tests, by what they hold. Importing this registers all of them, in the order of the table."""

from promises import malformed, framing, bodies, slow_clients, disconnects, answers, overload, stopping, replicas, metrics, exhaustion, logs, clock, faults  # noqa: F401
