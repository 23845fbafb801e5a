"""docs/operations.md is complete: every metric, every alert, every recording rule, every exit code."""

import re
import subprocess
from pathlib import Path

import dashboard
import pytest
import scraped
import yaml
from documents import HEADING, LINK, anchors, outside_code, plain, section, table
from scraped import ROOT, Page, rules_of

FILE = ROOT / "docs" / "operations.md"
QUERY = re.compile(r"^```promql\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Of the enum Exit: name and code.
EXIT = re.compile(r"^    (\w+) = (\d+),$", re.MULTILINE)


@pytest.fixture(scope="module")
def text() -> str:
    return FILE.read_text()


def test_every_metric_is_explained_and_nothing_else(text: str, page: Page) -> None:
    rows = table(section(text, "Metrics"))
    explained = {plain(row[0]): row for row in rows}
    assert len(explained) == len(rows), "a metric is there twice"
    assert set(explained) == set(page.types)
    for name, (_, kind, labels, says, normal) in explained.items():
        assert plain(kind) == page.types[name], name
        assert {label.strip() for label in plain(labels).split(",") if label.strip()} == page.family_labels(name), name
        assert says.strip() and normal.strip(), name


def test_every_alert_has_its_section_and_nothing_else(text: str) -> None:
    alerts = {rule["alert"] for rule in rules_of("alert")}
    sections = {title for _, title in HEADING.findall(section(text, "Alerts"))}
    assert sections == alerts
    for name in alerts:
        body = section(text, name)
        for severity in {rule["labels"]["severity"] for rule in rules_of("alert") if rule["alert"] == name}:
            assert severity in body.strip().splitlines()[0].lower(), f"{name}: {severity}"
        assert "*Look at*" in body and "*Do*" in body, name


def test_every_alert_is_in_the_table_with_its_severities(text: str) -> None:
    rows = table(section(text, "Alerts").split("\n###")[0])
    severities = {}
    for rule in rules_of("alert"):
        severities.setdefault(rule["alert"], set()).add(rule["labels"]["severity"])
    assert {LINK.sub("", row[0].lstrip("[")): set(row[1].split(", ")) for row in rows} == severities
    assert len(rows) == len(severities) and all(row[2] for row in rows)


def test_panels_that_it_names_are_on_the_dashboard(text: str) -> None:
    titles = {panel["title"] for panel in dashboard.panels(dashboard.load())}
    prose = re.sub(r"`[^`]*`", "", outside_code(text))
    named = {" ".join(name.split()) for name in re.findall(r'"([^"]+)"', prose)}
    assert len(named) > 20 and named <= titles, named - titles


def test_every_alert_leads_to_its_section(text: str) -> None:
    there = anchors(text)
    for rule in rules_of("alert"):
        address, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert address == "https://github.com/safeserve/safeserve/blob/main/docs/operations.md", rule["alert"]
        assert anchor in there and anchor == rule["alert"].lower(), rule["alert"]


def test_every_recording_rule_is_explained(text: str) -> None:
    explained = {plain(row[0]) for row in table(section(text, "Recording rules"))}
    assert explained == {rule["record"] for rule in rules_of("record")}


def test_every_exit_code_is_explained(text: str, program: str) -> None:
    explained = {plain(row[0]) for row in table(section(text, "Exit codes"))}
    source = (ROOT / "src" / "cli" / "exit.rs").read_text()
    enum = source[source.index("pub enum Exit {") :].split("\n}", 1)[0]
    codes = {code for _, code in EXIT.findall(enum)}
    assert codes and explained == codes
    said = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    assert {code for code in codes if re.search(rf"^  {code} +\S", said, re.MULTILINE)} == codes


def test_prometheus_can_read_its_queries(text: str, promtool: str, known: dict[str, set[str]], tmp_path: Path) -> None:
    queries = QUERY.findall(text)
    assert len(queries) >= 3
    # A label that a query makes itself.
    made = {"no label build to group by"}
    assert [problem for query in queries for problem in scraped.unknown(query, known) if problem not in made] == []
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "document", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", "--lint=none", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_sizes_are_those_of_the_performance_page(text: str) -> None:
    """Each time of a row is on that page, or that of a pass of 128 rows is; rows/s follows from it."""
    measured = (ROOT / "docs" / "performance.md").read_text()
    engine = {(row[0], row[1]): float(row[2]) for row in table(section(measured, "Engine")) if len(row) == 9}
    network = ""
    for row in table(section(text, "Sizing"))[:9]:
        network = {"64-256-128-10 (digits)": "digits", "": network}.get(plain(row[0]), plain(row[0]))
        microseconds, rate = float(row[2]), float(row[3].replace(",", ""))
        if row[1].startswith("no HTTP"):
            assert microseconds == pytest.approx(engine[network, "128"] / 128, rel=0.01), row
        else:
            assert f"| {row[2]} |" in measured or f"| {row[2]} (" in measured, row
        assert rate == pytest.approx(1e6 / microseconds, rel=0.02), row


def test_its_settings_are_settings(text: str) -> None:
    sections, names, current = set(), set(), ""
    for line in (ROOT / "config" / "default.toml").read_text().splitlines():
        if found := re.fullmatch(r"\[(\w+)\]", line):
            current = found[1]
            sections.add(current)
        elif found := re.match(r"(\w+) = ", line):
            names.add(f"{current}.{found[1]}")
    used = set(re.findall(rf"`((?:{'|'.join(sections)})\.\w+)`", text))
    assert used - names == set()


def test_its_links_lead_somewhere(text: str) -> None:
    for link in LINK.findall(outside_code(text)):
        if not link.startswith("https://"):
            file, _, anchor = link.partition("#")
            target = (FILE.parent / file) if file else FILE
            assert target.exists(), link
            assert not anchor or anchor in anchors(Path(target).read_text()), link
