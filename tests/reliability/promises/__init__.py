"""The tests, by what they hold. Importing this registers all of them, in the order of the table."""

from promises import malformed, framing  # noqa: F401
