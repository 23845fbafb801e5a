"""Writes the table of docs/compatibility.md."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "compatibility.md"
TABLE = re.compile(r"(<!-- table: tests/conformance/run --docs -->\n).*?(<!-- end table -->)", re.DOTALL)


def write(rows: Sequence, version: Callable[[str], str]) -> None:
    lines = ["| client | call | works |", "|---|---|---|"]
    for row in rows:
        client = row.client
        package = client.split(".")[0].split(" ")[0]
        try:
            client = f"{client} {version(package)}"
        except Exception:  # Not a package of its own: curl, a platform's contract.
            pass
        works = "yes" if row.state == "pass" else f"no: {row.note}"
        lines.append(f"| {client} | {row.call.replace('|', '/')} | {works} |")
    table = "\n".join(lines)
    PAGE.write_text(TABLE.sub(lambda found: f"{found[1]}{table}\n{found[2]}", PAGE.read_text()))
