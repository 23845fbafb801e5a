"""What rules, dashboard and documents are held against: the metrics pages of a running server and of HAProxy, what
rules record, and promtool."""

import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "reliability"))

import tools  # noqa: E402
from server import Metrics, Server, end, ended, free_port, start, wait_until  # noqa: E402
from suite import Skip  # noqa: E402

RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
REPLICAS = ("REPLICA_1", "REPLICA_2", "REPLICA_3")
BALANCER = ROOT / "deploy" / "compose" / "haproxy.cfg"

KEY = "0123456789abcdef0123456789abcdef"
TYPE = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
PARTS = {"histogram": ("_bucket", "_sum", "_count")}

# Series that Prometheus itself makes, and the labels that it gives every series of a target.
OF_PROMETHEUS = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
OF_TARGETS = {"job", "instance"}

# A metric with its selector: all of ours, those of processes and of HAProxy, what is recorded, and Prometheus' own.
SELECTED = re.compile(
    r"\b(safeserve_\w+|process_\w+|haproxy_\w+|\w+:\w+:\w+|up|ALERTS)\b(?![\w:(])(?:\{([^}]*)\})?"
)  # fmt: skip
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')
LEGEND = re.compile(r"\{\{ *(\w+) *\}\}")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


@dataclass
class Page:
    """One scrape: the text, the type of each family, and each series' name with its labels' names."""

    text: str
    types: dict[str, str]
    labels: dict[str, set[str]]

    @staticmethod
    def parse(text: str) -> "Page":
        labels = defaultdict(set)
        for name, have in Metrics.parse(text):
            labels[name] |= {label for label, _ in have}
        return Page(text, dict(TYPE.findall(text)), dict(labels))

    def family_labels(self, family: str) -> set[str]:
        """The labels of a family, without the bounds of buckets."""
        parts = PARTS.get(self.types[family], ("",))
        return set().union(*(self.labels[family + part] for part in parts)) - {"le"}


# Fixtures.


@pytest.fixture(scope="session")
def promtool() -> str:
    """Debian's promtool; without it the test is skipped."""
    try:
        return tools.promtool()
    except Skip as reason:
        pytest.skip(str(reason).removeprefix("skipped: "))


@pytest.fixture(scope="session")
def page(program: str) -> Page:
    """The page of a server that has everything on and has answered, refused and failed to find something."""
    return take(program)


@pytest.fixture(scope="session")
def known(page: Page) -> dict[str, set[str]]:
    """Every series that rules and queries may name, with its labels: what is scraped, and what is recorded."""
    return page.labels | take_balancer().labels | recorded()


@cache
def take(program: str) -> Page:
    scratch = ROOT / "target" / "deploy" / "page"
    scratch.mkdir(parents=True, exist_ok=True)
    keys = scratch / "keys"
    keys.write_text(f"tests {KEY}\n")
    operations = free_port()
    settings = [
        f"operations.bind=127.0.0.1:{operations}",
        f"grpc.bind=127.0.0.1:{free_port()}",
        f"admin.bind=127.0.0.1:{free_port()}",
        f"admin.keys={keys}",
        f"server.api_keys={keys}",
    ]
    with ended(Server([program], ROOT / "models", settings, scratch)) as server:
        for folder in (ROOT / "models").iterdir():
            if (folder / "example.json").is_file():
                rows = json.loads((folder / "example.json").read_text())
                for body in [rows, rows, {"instances": ["no row"]}]:
                    post(server, f"/v1/models/{folder.name}:predict", body)
        post(server, "/v1/models/no-such-model:predict", {})
        with urllib.request.urlopen(f"http://127.0.0.1:{operations}/metrics", timeout=10) as response:
            return Page.parse(response.read().decode())


@cache
def take_balancer() -> Page:
    """The page of Debian's HAProxy with the configuration of deploy/compose; without it the test is skipped."""
    try:
        program = tools.haproxy()
    except Skip as reason:
        pytest.skip(str(reason).removeprefix("skipped: "))
    log = ROOT / "target" / "deploy" / "haproxy.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    addresses = {name: f"127.0.0.1:{free_port()}" for name in ("LISTEN", "OPERATIONS", *REPLICAS)}
    with log.open("wb") as file:
        command = [program, "-db", "-f", str(BALANCER)]
        process = start(command, env=os.environ | addresses, stdout=file, stderr=file)
        try:
            pages: list[str] = []

            def answers() -> bool:
                assert process.poll() is None, log.read_text()[-500:]
                try:
                    with urllib.request.urlopen(f"http://{addresses['OPERATIONS']}/metrics", timeout=5) as response:
                        pages.append(response.read().decode())
                except OSError:
                    return False
                return True

            wait_until(answers, 10, "HAProxy answers", 0.05)
        finally:
            end(process)
    return Page.parse(pages[-1])


def post(server: Server, path: str, body: object) -> None:
    headers = {"Content-Type": "application/json", "X-API-Key": KEY}
    address = f"http://127.0.0.1:{server.port}{path}"
    request = urllib.request.Request(address, data=json.dumps(body).encode(), headers=headers)
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError as error:
        error.close()


def rules_of(kind: str) -> list[dict]:
    """All rules that have this key: "alert" or "record"."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def recorded() -> dict[str, set[str]]:
    """What is recorded, with the labels that the level in its name and the rule itself promise."""
    labels = {}
    for rule in rules_of("record"):
        level = set(rule["record"].split(":")[0].split("_"))
        labels[rule["record"]] = level | set(rule.get("labels", {})) | ({"version"} if "instance" in level else set())
    return labels


def unknown(expression: str, known: dict[str, set[str]], results: set[str] = frozenset()) -> list[str]:
    """What an expression names that is not there: metrics, labels of a selector, labels that it groups by.

    `known`: series with their labels; `results`: further names that are to be labels, as of legends.
    """
    known = known | OF_PROMETHEUS
    problems, have = [], set(OF_TARGETS)
    found = SELECTED.findall(GROUPING.sub("", expression))
    if not found:
        problems.append("no metric")
    for name, selector in found:
        if name not in known:
            problems.append(f"no metric {name}")
            continue
        labels = known[name] | OF_TARGETS
        have |= labels
        problems += [f"no label {label} of {name}" for label in MATCHER.findall(selector) if label not in labels]
    for group in GROUPING.findall(expression):
        names = {name.strip() for name in group.split(",") if name.strip()}
        problems += [f"no label {name} to group by" for name in names - have]
    return problems + [f"no label {name}" for name in results - have]
