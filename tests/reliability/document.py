"""The tables of figures in docs/reliability.md."""

import os
import platform
from itertools import groupby

from suite import ROOT, Row, entries

FILE = ROOT / "docs" / "reliability.md"
BEGIN = "<!-- begin figures: written by tests/reliability/run --docs -->"
BEGIN_NIGHTLY = "<!-- begin figures: written by tests/reliability/run --nightly --docs -->"
END = "<!-- end figures -->"


def write(rows: list[Row], nightly: bool) -> None:
    """Puts the rows in the place of those of the last run."""
    begin = BEGIN_NIGHTLY if nightly else BEGIN
    claims = {entry.name: entry.claim for entry in entries}
    lines = ["| Promise | Test and command | Last figures, with their bounds |", "|---|---|---|"]
    by_test = [list(group) for _, group in groupby(rows, key=lambda row: row.test)]
    for group in sorted(by_test, key=lambda group: group[0].promise):
        promise, name = group[0].promise, group[0].test
        figures = "<br>".join(f"{row.figure} ({row.bound}){mark(row)}" for row in group)
        lines.append(f"| {promise} | {claims[name]} `tests/reliability/run {name}` | {figures.replace('|', '/')} |")
    # ARM gives no names.
    names = (line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    model = next(names, platform.machine())
    lines += ["", f"{model}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, load average "
              f"{os.getloadavg()[0]:.1f} at the end of the run."]  # fmt: skip
    text = FILE.read_text()
    before, rest = text.split(begin)
    after = rest.split(END, maxsplit=1)[1]
    FILE.write_text(f"{before}{begin}\n" + "\n".join(lines) + f"\n{END}{after}")


def mark(row: Row) -> str:
    return {"pass": "", "FAIL": " **not held**", "skip": " **skipped**", "known": " **not held yet**"}[row.state]
