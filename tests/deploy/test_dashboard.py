"""The dashboard of deploy/grafana: by the types of Grafana's schema, by promtool, and by a running server's page."""

import enum
import json
import subprocess
import sys
import types
import typing
from itertools import combinations
from pathlib import Path

import dashboard as reader
import pytest
import scraped
import yaml
from documents import anchors
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as schema
from scraped import ROOT, Page

FOLDER = ROOT / "deploy" / "grafana"
REPOSITORY = "https://github.com/safeserve/safeserve/blob/main/"

register_default_plugins()


@pytest.fixture(scope="session")
def board() -> dict:
    return reader.load()


def all_queries(board: dict) -> list[reader.Query]:
    return reader.panel_queries(board) + reader.variable_queries(board) + reader.annotation_queries(board)


def test_the_file_is_what_its_script_writes() -> None:
    done = subprocess.run([sys.executable, FOLDER / "dashboard.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_schema_is_the_one_of_the_types(board: dict) -> None:
    assert board["schemaVersion"] == schema.Dashboard().schema_version == 41


def test_it_reads_into_grafanas_types_and_loses_nothing(board: dict) -> None:
    """What the types do not know is dropped on the way through them, so that a key that is misspelt shows."""
    assert misfits(board) == []


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (lambda board: board.update(tittle="x"), "dashboard.tittle"),
        (lambda board: board.update(refresh=10), "dashboard.refresh"),
        (lambda board: board["panels"][1]["options"].update(colorMod="value"), "colorMod"),
        (lambda board: board["panels"][1]["options"].update(colorMode="rainbow"), "color_mode"),
        (lambda board: board["panels"][1]["gridPos"].update(w="3"), "grid_pos"),
        (lambda board: board["panels"][1]["targets"][0].update(exprr="up"), "exprr"),
        (lambda board: board["panels"][1].update(transformations=[{"id": "merge", "optoins": {}}]), "optoins"),
        (lambda board: board["templating"]["list"][1].update(refresh=7), "refresh"),
    ],
)
def test_faults_in_it_are_found(board: dict, fault: typing.Callable[[dict], None], found: str) -> None:
    planted = json.loads(json.dumps(board))
    fault(planted)
    assert any(found in problem for problem in misfits(planted))


def misfits(board: dict) -> list[str]:
    """Where a dashboard is not what the schema's types say."""
    try:
        typed = schema.Dashboard.from_json(board)
        for panel in typed.panels:
            # The only parts that the classes leave as they came.
            if getattr(panel, "transformations", None):
                panel.transformations = [schema.DataTransformerConfig.from_json(one) for one in panel.transformations]
    except (TypeError, ValueError, AttributeError) as error:
        return [str(error)]
    written = json.loads(json.dumps(typed, cls=JSONEncoder))
    return lost(board, written, "dashboard") + ill_typed(typed, schema.Dashboard, "dashboard")


def lost(wanted: object, have: object, place: str) -> list[str]:
    """Where something of `wanted` is not in `have`, which may hold defaults as well."""
    if isinstance(wanted, dict) and isinstance(have, dict):
        return [
            problem
            for key, value in wanted.items()
            for problem in (
                lost(value, have[key], f"{place}.{key}") if key in have else [f"{place}.{key} is no key there"]
            )
        ]
    if isinstance(wanted, list) and isinstance(have, list) and len(wanted) == len(have):
        return [
            problem
            for number, (a, b) in enumerate(zip(wanted, have, strict=True))
            for problem in lost(a, b, f"{place}[{number}]")
        ]
    return [] if wanted == have else [f"{place}: {wanted!r} became {have!r}"]


def ill_typed(value: object, kind: object, place: str) -> list[str]:
    """Where a value is not of the type that the schema's classes say; these do not look themselves."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    wrong = [f"{place}: {value!r} is no {kind}"]
    if kind in (object, typing.Any) or value is None and type(None) in arguments:
        # Options and fields' own settings: of the panel's plugin, whose class the value then has.
        return ill_typed(value, type(value), place) if schema.__package__ in type(value).__module__ else []
    if origin in (typing.Union, types.UnionType):
        kinds = [one for one in arguments if one is not type(None)]
        if type(value) in kinds:
            return ill_typed(value, type(value), place)
        return min((ill_typed(value, one, place) for one in kinds), key=len)
    if origin is typing.Literal:
        return [] if value in arguments else wrong
    if origin is list:
        if not isinstance(value, list):
            return wrong
        return [
            problem
            for number, one in enumerate(value)
            for problem in ill_typed(one, arguments[0], f"{place}[{number}]")
        ]
    if origin is dict:
        if not isinstance(value, dict):
            return wrong
        return [problem for key, one in value.items() for problem in ill_typed(one, arguments[1], f"{place}.{key}")]
    if kind is float:
        return [] if isinstance(value, (int, float)) and not isinstance(value, bool) else wrong
    if kind is int:
        return [] if isinstance(value, int) and not isinstance(value, bool) else wrong
    if not isinstance(kind, type):
        return []
    if issubclass(kind, enum.Enum):
        # The classes keep what the JSON has.
        return [] if value in [one.value for one in kind] else wrong
    if not isinstance(value, kind):
        return wrong
    if kind.__module__ == "builtins":
        return []
    # A query's class is abstract in the schema; the value's own says more.
    hints = typing.get_type_hints(type(value))
    return [
        problem for name, hint in hints.items() for problem in ill_typed(getattr(value, name), hint, f"{place}.{name}")
    ]


def test_panels_have_ids_of_their_own_and_do_not_overlap(board: dict) -> None:
    panels = reader.panels(board)
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24 and place["w"] > 0 and place["h"] > 0, panel["title"]
    for one, other in combinations(panels, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart or below, f"{one['title']} and {other['title']} overlap"


def test_panels_say_what_they_show(board: dict) -> None:
    titles = [panel["title"] for panel in reader.panels(board)]
    assert len(set(titles)) == len(titles)
    for panel in reader.panels(board):
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), panel["title"]
        if panel["type"] in ("stat", "timeseries"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        if panel["type"] == "timeseries":
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_every_part_that_operators_look_for_is_there(board: dict) -> None:
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert rows == [
        "Now", "Traffic", "Errors and refusals", "Latency", "Queue", "Batches", "Resources", "Models",
        "Life and faults", "Balancer",
    ]  # fmt: skip
    kinds = {panel["type"] for panel in reader.panels(board)}
    assert {"heatmap", "table", "timeseries", "stat", "state-timeline"} <= kinds


def test_prometheus_can_read_every_query(promtool: str, board: dict, tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query.expression} for number, query in enumerate(all_queries(board))]
    assert len(rules) > 60
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", "--lint=none", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def series(name: str, labels: str, values: str, job: str = "safeserve") -> dict:
    return {"series": f'{name}{{job="{job}",{labels}}}', "values": values}


def test_what_panels_say_of_replicas(promtool: str, board: dict, tmp_path: Path) -> None:
    """Of three replicas the third is down; the second has no limit of memory and started a minute ago."""
    a, b, c = ('instance="a"', 'instance="b"', 'instance="c"')
    firing = 'alertstate="firing",alertname="Safeserve'
    given = [
        *(series("up", one, f"{up}x20") for one, up in ((a, 1), (b, 1), (c, 0))),
        *(series("safeserve_ready", one, "1x20") for one in (a, b)),
        *(series("safeserve_memory_limit_bytes", one, f"{limit}x20") for one, limit in ((a, 1000), (b, -1))),
        series("safeserve_weight_limit_bytes", a, "-1x20"),
        series("process_start_time_seconds", a, "-9000x20"),
        series("process_start_time_seconds", b, "_x17 240x3"),
        *(
            series("safeserve_model_weight_bytes", f'{one},model="{model}",version="{version}"', f"{size}x20")
            for one in (a, b)
            for model, version, size in (("iris", 1, 10), ("iris", 2, 20), ("digits", 1, 70))
        ),
        series("ALERTS", f'{firing}ReplicaDown",severity="warning",{c}', "1x20"),
        series("ALERTS", f'{firing}WorkersBusy",severity="info",{a}', "1x20"),
        series("ALERTS", f'{firing}ReplicaDown",severity="warning",{a}', "1x20", job="another-safeserve"),
        series("ALERTS", f'{firing}BalancerErrors",severity="critical",instance="b:8404"', "1x20", job="balancer"),
        {"series": f'ALERTS{{{firing}Absent",severity="critical"}}', "values": "1x20"},
    ]
    said = {
        "Replicas up A": [("{}", 2 / 3)],
        "Replicas ready A": [("{}", 2 / 3)],
        "Alerts A": [("{}", 3)],
        "Memory B": [("{}", 1000)],
        "Weights A": [('{model="iris"}', 30), ('{model="digits"}', 70)],
        "Weights B": [("{}", 100)],
        "Weights C": [],
        "annotation Starts": [('{job="safeserve", instance="b"}', 60)],
    }
    expressions = {query.name: query.expression for query in all_queries(board)}
    asked = [
        {
            "expr": expressions[name],
            "eval_time": "5m",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in samples],
        }
        for name, samples in said.items()
    ]
    test = {"interval": "15s", "input_series": given, "promql_expr_test": asked}
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "15s", "tests": [test]}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_query_names_metrics_and_labels_that_there_are(board: dict, known: dict[str, set[str]]) -> None:
    problems = []
    for query in all_queries(board):
        shown = set(scraped.LEGEND.findall(query.legend))
        problems += [f"{query.name}: {problem}" for problem in scraped.unknown(query.expression, known, shown)]
    assert not problems, "\n".join(problems)


def test_every_metric_is_on_some_panel_or_in_a_rule(board: dict, page: Page) -> None:
    """A metric that neither a graph nor an alert uses is either not needed or forgotten."""
    shown = " ".join(query.expression for query in all_queries(board))
    unused = {family for family in page.types if family not in shown}
    assert unused == {"process_virtual_memory_bytes"}


def test_its_links_lead_somewhere(board: dict) -> None:
    for link in board["links"]:
        file, _, anchor = link["url"].removeprefix(REPOSITORY).partition("#")
        assert (ROOT / file).is_file(), link
        assert not anchor or anchor in anchors((ROOT / file).read_text()), link


def test_what_provisions_it_fits_it(board: dict) -> None:
    sources = yaml.safe_load((FOLDER / "provisioning" / "datasources" / "prometheus.yml").read_text())
    providers = yaml.safe_load((FOLDER / "provisioning" / "dashboards" / "safeserve.yml").read_text())
    (source,) = sources["datasources"]
    (chosen,) = (variable for variable in board["templating"]["list"] if variable["type"] == "datasource")
    assert sources["apiVersion"] == providers["apiVersion"] == 1
    assert source["type"] == chosen["query"] and source["uid"] == chosen["current"]["value"]
    scraping = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == scraping["scrape_interval"]
    (provider,) = providers["providers"]
    assert provider["type"] == "file" and provider["options"]["path"]
