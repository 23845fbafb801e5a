"""Reads the dashboard of deploy/grafana, and gives its queries as Grafana would send them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent.parent / "deploy" / "grafana" / "dashboards" / "safeserve.json"
# The job of deploy/prometheus/prometheus.yml.
CHOSEN = {"job": "safeserve"}

VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::\w+)?\})")
LABEL_VALUES = re.compile(r"label_values\((.+), *(\w+)\)")


@dataclass(frozen=True)
class Query:
    """One query of a panel, a variable or an annotation; `expression` is what Prometheus gets."""

    panel: str
    letter: str
    legend: str
    expression: str
    # Whether Grafana asks for one moment, else for the time that is shown.
    is_instant: bool

    @property
    def name(self) -> str:
        return f"{self.panel} {self.letter}".strip()


def load(file: Path = FILE) -> dict:
    return json.loads(file.read_text())


def panels(dashboard: dict) -> list[dict]:
    """All panels and rows, also the panels of rows that are collapsed."""
    found = []
    for panel in dashboard["panels"]:
        found += [panel, *panel.get("panels", [])]
    return found


def queries() -> list[tuple[str, str]]:
    """Panel and query, of all panels and variables, as they are asked of the Prometheus of deploy/compose."""
    dashboard = load()
    return [(query.panel, query.expression) for query in panel_queries(dashboard) + variable_queries(dashboard)]


def panel_queries(
    dashboard: dict, chosen: dict[str, str] = CHOSEN, rate_interval: str = "1m", shown: str = "30m"
) -> list[Query]:
    """Every panel's queries, in their order. `chosen` gives variables values; of all others it is "All".

    `rate_interval`: Grafana takes four times the scrapes' interval, or one more than a step of the graph.
    """
    values = {"__rate_interval": rate_interval, "__range": shown} | values_of(dashboard, chosen)
    return [
        Query(
            panel["title"],
            target["refId"],
            target["legendFormat"],
            substitute(target["expr"], values),
            target.get("instant", False),
        )
        for panel in panels(dashboard)
        for target in panel.get("targets", [])
    ]


def variable_queries(dashboard: dict, chosen: dict[str, str] = CHOSEN) -> list[Query]:
    """The series that the variables take their values from: without any there is nothing to choose."""
    found = []
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            asked = LABEL_VALUES.fullmatch(variable["query"]["query"])
            assert asked, f"variable {variable['name']}: no label_values(...): {variable['query']['query']}"
            expression = f"count by ({asked[2]}) ({substitute(asked[1], values_of(dashboard, chosen))})"
            found.append(Query(f"variable {variable['name']}", "", "", expression, True))
    return found


def annotation_queries(dashboard: dict, chosen: dict[str, str] = CHOSEN) -> list[Query]:
    """The queries of annotations. They show what happened: where nothing did, they have no series."""
    return [
        Query(
            f"annotation {annotation['name']}",
            "",
            "",
            substitute(annotation["expr"], values_of(dashboard, chosen)),
            False,
        )
        for annotation in dashboard["annotations"]["list"]
    ]


def values_of(dashboard: dict, chosen: dict[str, str]) -> dict[str, str]:
    of_all = {
        variable["name"]: variable["allValue"] for variable in dashboard["templating"]["list"] if "allValue" in variable
    }
    return of_all | chosen


def substitute(expression: str, values: dict[str, str]) -> str:
    """Puts the variables' values in. One that is not there is an error: Grafana would send its name."""

    def value(found: re.Match) -> str:
        name = found[1] or found[2]
        assert name in values, f"${name} has no value: {expression}"
        return values[name]

    return VARIABLE.sub(value, expression)
