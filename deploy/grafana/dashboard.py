#!/usr/bin/env python3
"""Writes dashboards/safeserve.json, the dashboard of safeserve.

    deploy/grafana/dashboard.py            writes it
    deploy/grafana/dashboard.py --check    says whether it is what this file would write

Change this file, not the JSON: there each panel is a hundred lines, and three of them matter.
Made for Grafana 12, and for 11.6, which has the same schema.
"""

import json
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parent / "dashboards" / "safeserve.json"
# Of Grafana 11.6 and 12; tests/deploy/test_dashboard.py holds the JSON against that schema's types.
SCHEMA_VERSION = 41
DOCS = "https://github.com/safeserve/safeserve/blob/main/docs/operations.md"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

# Which series a query takes: of the replicas that are chosen, and of the models.
BALANCER = 'job="balancer"'
REPLICA = 'job=~"$job",instance=~"$instance"'
MODEL = f'{REPLICA},model=~"$model"'
# Of the chosen jobs, of the balancer, and of no job: SafeserveAbsent has none. Without those that page no one.
FIRING = 'ALERTS{alertname=~"Safeserve.+",alertstate="firing",severity!="info",job=~"$job|balancer|"}'


GREEN, YELLOW, RED = "green", "yellow", "red"


def rate(metric: str, labels: str = MODEL) -> str:
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def increase(metric: str, labels: str = MODEL) -> str:
    return f"increase({metric}{{{labels}}}[$__rate_interval])"


def total(expression: str) -> str:
    return f"sum({expression})"


def by(labels: str, expression: str) -> str:
    return f"sum by ({labels}) ({expression})"


def ratio(part: str, whole: str) -> str:
    """Nothing rather than 0/0 where there is no whole."""
    return f"{part} / ({whole} > 0)"


def or_zero(expression: str) -> str:
    """One series of 0 where there would be none: that nothing happened is what is good."""
    return f"{expression} or on () vector(0)"


def quantile(share: float, metric: str, labels: str = "le") -> str:
    return f"histogram_quantile({share}, {by(labels, rate(metric + '_bucket'))})"


def query(expression: str, legend: str = "", **options: object) -> dict:
    return {"expr": expression, "legendFormat": legend, **options}


def quantiles(metric: str) -> list[dict]:
    return [query(quantile(share, metric), name) for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))]


def of_limit(expression: str, legend: str, limit: str, name: str = "limit") -> list[dict]:
    """Series of one replica and the least limit of all; no line where there is no limit (-1)."""
    return [query(expression, legend), query(f"min({limit}{{{REPLICA}}} > 0)", name)]


def steps(*steps: tuple[str, float | None]) -> dict:
    """Colours from values on; the first has none."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in steps]}


PLAIN = steps((GREEN, None))
REQUESTS = rate("safeserve_requests_total")
ERRORS = rate("safeserve_requests_total", f'{MODEL},code=~"5.."')


class Page:
    """Panels, placed from left to right in lines of 24 columns."""

    def __init__(self) -> None:
        self.panels: list[dict] = []
        self.x = self.y = self.height = 0

    def row(self, title: str) -> None:
        self.y += self.height
        self.x = self.height = 0
        self.panels.append({
            "type": "row", "id": len(self.panels) + 1, "title": title, "collapsed": False, "panels": [],
            "gridPos": {"x": 0, "y": self.y, "w": 24, "h": 1},
        })  # fmt: skip
        self.y += 1

    def panel(self, kind: str, title: str, description: str, queries: list[dict], width: int, height: int) -> dict:
        if self.x + width > 24:
            self.y += self.height
            self.x = self.height = 0
        targets = [
            {"refId": chr(ord("A") + number), "datasource": SOURCE, "editorMode": "code", "range": True, **target}
            for number, target in enumerate(queries)
        ]
        panel = {
            "type": kind, "id": len(self.panels) + 1, "title": title, "description": description,
            "datasource": SOURCE, "targets": targets,
            "gridPos": {"x": self.x, "y": self.y, "w": width, "h": height},
            "options": {}, "fieldConfig": {"defaults": {}, "overrides": []},
        }  # fmt: skip
        self.x += width
        self.height = max(self.height, height)
        self.panels.append(panel)
        return panel

    def stat(
        self,
        title: str,
        description: str,
        expression: str,
        unit: str,
        thresholds: dict,
        width: int = 3,
        decimals: int | None = None,
    ) -> None:
        panel = self.panel("stat", title, description, [query(expression, instant=True, range=False)], width, 4)
        panel["options"] = {
            "graphMode": "none", "colorMode": "value", "justifyMode": "auto", "textMode": "auto",
            "orientation": "auto", "wideLayout": True, "showPercentChange": False,
            "reduceOptions": {"calcs": ["lastNotNull"], "values": False, "fields": ""},
        }  # fmt: skip
        defaults = {"unit": unit, "color": {"mode": "thresholds"}, "thresholds": thresholds, "mappings": []}
        panel["fieldConfig"]["defaults"] = defaults
        if decimals is not None:
            defaults["decimals"] = decimals

    def lines(
        self,
        title: str,
        description: str,
        queries: list[dict],
        unit: str,
        width: int = 8,
        thresholds: dict = PLAIN,
        stacked: str = "none",
        limits: tuple[str, ...] = (),
        **defaults: object,
    ) -> None:
        """Lines over time. `limits`: the series of these names are limits, drawn dashed and not filled."""
        panel = self.panel("timeseries", title, description, queries, width, 8)
        panel["options"] = {
            "legend": {
                "showLegend": True, "displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }  # fmt: skip
        panel["fieldConfig"]["defaults"] = {
            "unit": unit, "min": 0, "color": {"mode": "palette-classic"}, "thresholds": thresholds, "mappings": [],
            "custom": {
                "drawStyle": "line", "lineWidth": 1, "fillOpacity": 10 if stacked == "none" else 40,
                "showPoints": "never", "spanNulls": False, "stacking": {"mode": stacked, "group": "A"},
                "thresholdsStyle": {"mode": "off" if thresholds is PLAIN else "dashed"},
            },
            **defaults,
        }  # fmt: skip
        panel["fieldConfig"]["overrides"] = [
            {
                "matcher": {"id": "byName", "options": name},
                "properties": [
                    {"id": "color", "value": {"mode": "fixed", "fixedColor": RED}},
                    {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
                    {"id": "custom.fillOpacity", "value": 0},
                ],
            }
            for name in limits
        ]

    def heat_map(self, title: str, description: str, metric: str, unit: str, width: int = 12) -> None:
        buckets = query(f"sum by (le) ({increase(metric + '_bucket')})", "{{le}}", format="heatmap")
        panel = self.panel("heatmap", title, description, [buckets], width, 8)
        panel["options"] = {
            "calculate": False,
            "color": {
                "mode": "scheme", "scheme": "Oranges", "fill": "dark-orange", "scale": "exponential",
                "exponent": 0.5, "steps": 64, "reverse": False,
            },
            "filterValues": {"le": 1e-9},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never", "cellGap": 1,
            "yAxis": {"unit": unit, "axisPlacement": "left", "reverse": False},
            "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": False},
            "legend": {"show": True},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
        }  # fmt: skip

    def timeline(
        self, title: str, description: str, queries: list[dict], states: dict[str, tuple[str, str]], width: int
    ) -> None:
        """What each series was at each time; `states` has the text and the colour of each value."""
        panel = self.panel("state-timeline", title, description, queries, width, 8)
        panel["options"] = {
            "showValue": "auto", "mergeValues": True, "rowHeight": 0.9, "alignValue": "left",
            "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
            "tooltip": {"mode": "single", "sort": "none"},
        }  # fmt: skip
        shown = {
            value: {"text": text, "color": color, "index": index}
            for index, (value, (text, color)) in enumerate(states.items())
        }
        panel["fieldConfig"]["defaults"] = {
            "color": {"mode": "thresholds"}, "thresholds": PLAIN,
            "mappings": [{"type": "value", "options": shown}],
            "custom": {"lineWidth": 0, "fillOpacity": 70},
        }  # fmt: skip

    def table(
        self,
        title: str,
        description: str,
        queries: list[dict],
        columns: dict[str, str],
        hidden: list[str],
        units: dict[str, str],
    ) -> None:
        """One line for each set of labels. `columns`: names of fields, in their order, and what they are called."""
        targets = [{"instant": True, "range": False, "format": "table"} | target for target in queries]
        panel = self.panel("table", title, description, targets, 24, 9)
        panel["options"] = {"frameIndex": 0, "showHeader": True, "cellHeight": "sm"}
        panel["fieldConfig"]["defaults"] = {
            "color": {"mode": "thresholds"}, "thresholds": PLAIN, "mappings": [],
            "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "filterable": True},
        }  # fmt: skip
        panel["fieldConfig"]["overrides"] = [
            {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
            for name, unit in units.items()
        ]
        panel["transformations"] = [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {name: True for name in hidden},
                    "indexByName": {name: place for place, name in enumerate(columns)},
                    "renameByName": columns,
                },
            },
        ]


def panels() -> list[dict]:
    page = Page()
    for row in (now, traffic, errors, latency, queue, batches, resources, models, life, balancer):
        row(page)
    return page.panels


def now(page: Page) -> None:
    page.row("Now")
    page.stat(
        "Replicas up", "Share of the targets that Prometheus can scrape. Normal: 100 %.",
        f"sum(up{{{REPLICA}}}) / count(up{{{REPLICA}}})", "percentunit", steps((RED, None), (GREEN, 1)), decimals=0,
    )  # fmt: skip
    page.stat(
        "Replicas ready", "Share of the targets. Normal: 100 %, less for half a minute while one drains.",
        f"sum(safeserve_ready{{{REPLICA}}}) / count(up{{{REPLICA}}})", "percentunit",
        steps((RED, None), (GREEN, 1)), decimals=0,
    )  # fmt: skip
    page.stat(
        "Requests", "Predict requests that reached a model, over all chosen replicas.", total(REQUESTS), "reqps", PLAIN
    )
    page.stat(
        "Errors", "Share of 5xx. Normal: below 0.1 %, the objective.",
        or_zero(ratio(total(ERRORS), total(REQUESTS))),
        "percentunit", steps((GREEN, None), (YELLOW, 0.001), (RED, 0.0144)), decimals=2,
    )  # fmt: skip
    page.stat(
        "p99", "99 of 100 requests take no longer. SafeserveLatencyHigh fires above 250 ms.",
        quantile(0.99, "safeserve_request_duration_seconds"), "s", steps((GREEN, None), (RED, 0.25)),
    )  # fmt: skip
    limit = f"ignoring (model, version) group_left () safeserve_queue_limit_rows{{{REPLICA}}}"
    page.stat(
        "Fullest queue", "Of its limit. Normal: near 0; above 80 % refusals are near.",
        f"max(safeserve_queued_rows{{{MODEL}}} / {limit})",
        "percentunit", steps((GREEN, None), (YELLOW, 0.5), (RED, 0.8)), decimals=1,
    )  # fmt: skip
    page.stat(
        "Versions refused", "Model versions that cannot be served, over all chosen replicas. Normal: 0.",
        total(f'safeserve_models{{{REPLICA},state="unavailable"}}'), "none", steps((GREEN, None), (RED, 1)),
    )  # fmt: skip
    page.stat(
        "Alerts", "Alerts of deploy/prometheus that fire now, without those of severity info. Normal: 0.",
        or_zero(f"count({FIRING})"), "none", steps((GREEN, None), (RED, 1)),
    )  # fmt: skip


def traffic(page: Page) -> None:
    page.row("Traffic")
    page.lines("Requests by model", "Predict requests a second.", [query(by("model", REQUESTS), "{{model}}")], "reqps")
    page.lines(
        "Rows by model", "Rows computed a second. More than requests where a request has several rows.",
        [query(by("model", rate("safeserve_rows_total")), "{{model}}")], "rowsps",
    )  # fmt: skip
    page.lines(
        "Requests by protocol", "Predict requests a second, by wire format.",
        [query(or_zero(f"{by('protocol', REQUESTS)} > 0"), "{{protocol}}")], "reqps", stacked="normal",
    )  # fmt: skip
    page.lines(
        "Requests by code", "By HTTP status, a second. Normal: 200, and some 400 of clients that are wrong.",
        [query(or_zero(f"{by('code', REQUESTS)} > 0"), "{{code}}")], "reqps", stacked="normal",
    )  # fmt: skip
    page.lines(
        "All HTTP requests by route", "With metadata, health checks, scrapes and unknown paths (other).",
        [query(or_zero(f"{by('route', rate('safeserve_http_requests_total', REPLICA))} > 0"), "{{route}}")], "reqps",
    )  # fmt: skip
    page.lines(
        "Requests by API key", "By the key's name. Without keys: 0.",
        [query(or_zero(by("key", rate("safeserve_api_key_requests_total", REPLICA))), "{{key}}")], "reqps",
    )  # fmt: skip


def errors(page: Page) -> None:
    page.row("Errors and refusals")
    page.lines(
        "Share of errors by model", "Answers of 5xx of all. Normal: below 0.1 %.",
        [query(or_zero(ratio(by("model", ERRORS), by("model", REQUESTS))), "{{model}}")],
        "percentunit", thresholds=steps((GREEN, None), (RED, 0.001)),
    )  # fmt: skip
    page.lines(
        "Refusals by reason",
        "Requests that were well-formed and got no answer from their model. Normal: none but cancelled ones. "
        "queue_full, memory and deadline are overload; non_finite and panic are faults of a model.",
        [query(by("reason", rate("safeserve_rejections_total")), "{{reason}}")], "reqps",
    )  # fmt: skip
    page.lines(
        "Burn rate of the error budget",
        "1 uses up the 0.1 % of 30 days in 30 days. SafeserveErrorBudgetBurn fires at 14.4 over an hour, 6 over 6 "
        "hours, 3 over a day, 1 over 3 days. Of all replicas and models, by the recording rules of deploy/prometheus.",
        [
            query(or_zero(f'max(job:safeserve_errors:ratio_rate{window}{{job=~"$job"}}) / 0.001'), window)
            for window in ("1h", "6h", "1d", "3d")
        ],
        "none", thresholds=steps((GREEN, None), (YELLOW, 1), (RED, 14.4)),
    )  # fmt: skip


def latency(page: Page) -> None:
    page.row("Latency")
    page.heat_map(
        "Time of requests",
        "How many requests took how long, from their head to their answer. Normal: one dark band; a second one above "
        "it is waiting, or large requests.",
        "safeserve_request_duration_seconds", "s",
    )  # fmt: skip
    page.lines(
        "Quantiles", "Over the chosen models and replicas. Known to their bucket; a decade has three.",
        quantiles("safeserve_request_duration_seconds"), "s", width=12,
    )  # fmt: skip
    page.lines(
        "p99 by model", "SafeserveLatencyHigh fires above the limit.",
        [
            query(quantile(0.99, "safeserve_request_duration_seconds", "model, le"), "{{model}}"),
            query('max(job_model:safeserve_request_duration_seconds:limit{job=~"$job",model=~"$model"})', "limit"),
        ],
        "s", width=12, limits=("limit",),
    )  # fmt: skip
    parts = {
        "request": "safeserve_request_duration_seconds",
        "waiting": "safeserve_queue_duration_seconds",
        "forward pass": "safeserve_compute_duration_seconds",
    }
    page.lines(
        "Where the time goes", "Means. A request's time beyond waiting and its pass is reading, decoding, encoding.",
        [
            query(ratio(total(rate(metric + "_sum")), total(rate(metric + "_count"))), name)
            for name, metric in parts.items()
        ],
        "s", width=12,
    )  # fmt: skip


def queue(page: Page) -> None:
    page.row("Queue")
    page.lines(
        "Rows waiting by model",
        "The fullest queue of each model: of one version on one replica, as the limit is. Normal: near 0.",
        of_limit(f"max by (model) (safeserve_queued_rows{{{MODEL}}})", "{{model}}", "safeserve_queue_limit_rows"),
        "short", limits=("limit",),
    )  # fmt: skip
    page.lines(
        "Waiting time", "Until a worker takes a request; 0 of those that are computed where they are decoded.",
        quantiles("safeserve_queue_duration_seconds"), "s",
    )  # fmt: skip
    page.lines(
        "Rows waiting a replica", "What autoscalers follow. Normal: below the target that the autoscaler has.",
        [query('job:safeserve_queued_rows_per_replica:avg1m{job=~"$job"}', "{{job}}")], "short",
    )  # fmt: skip


def batches(page: Page) -> None:
    page.row("Batches")
    passes = rate("safeserve_batches_total")
    page.heat_map(
        "Rows of a pass", "Normal: 1 while there is little load; wider under load.",
        "safeserve_batch_rows", "short", width=8,
    )  # fmt: skip
    page.lines(
        "Rows a pass by model",
        "The mean. A model whose passes hold as many as they may (the table of versions says how many) has all that "
        "batching gives it.",
        [query(ratio(by("model", rate("safeserve_rows_total")), by("model", passes)), "{{model}}")], "short",
    )  # fmt: skip
    page.lines(
        "What released a batch",
        "idle: a worker was free. full: as many rows as may be. delay: held as long as may be. inline: cheap, not "
        "queued.",
        [query(by("release", passes), "{{release}}")], "ops", stacked="normal",
    )  # fmt: skip
    page.lines(
        "Inline and queued",
        "Share of the passes that were computed where their request was decoded. Normal: all of a cheap model's while "
        "there is little load.",
        [
            query(ratio(total(rate("safeserve_batches_total", f'{MODEL},release{sign}"inline"')), total(passes)), name)
            for sign, name in (("=", "inline"), ("!=", "queued"))
        ],
        "percentunit", width=12, stacked="normal", max=1,
    )  # fmt: skip
    page.lines(
        "Time of a pass", "Forward passes, whatever their rows.",
        quantiles("safeserve_compute_duration_seconds"), "s", width=12,
    )  # fmt: skip


def resources(page: Page) -> None:
    page.row("Resources")
    page.lines(
        "CPU", "Cores used, and those that a replica may use. Normal: below nine tenths.",
        of_limit(rate("process_cpu_seconds_total", REPLICA), "{{instance}}", "safeserve_cpu_budget_cores", "budget"),
        "short", limits=("budget",),
    )  # fmt: skip
    busy = by("instance", rate("safeserve_compute_duration_seconds_sum"))
    page.lines(
        "Workers busy",
        "Share of the workers' time that is forward passes; those on threads of connections count too, so that it may "
        "pass 100 %.",
        [query(f"{busy} / on (instance) {by('instance', f'safeserve_workers{{{REPLICA}}}')}", "{{instance}}")],
        "percentunit", thresholds=steps((GREEN, None), (RED, 0.9)),
    )  # fmt: skip
    page.lines("Threads", "Normal: constant.", [query(f"process_threads{{{REPLICA}}}", "{{instance}}")], "short")
    page.lines(
        "Memory", "Resident. Normal: flat between loads, below nine tenths of the limit.",
        of_limit(f"process_resident_memory_bytes{{{REPLICA}}}", "{{instance}}", "safeserve_memory_limit_bytes"),
        "bytes", limits=("limit",),
    )  # fmt: skip
    weights = "max by (model) ({})".format(by("instance, model", f"safeserve_model_weight_bytes{{{MODEL}}}"))
    page.lines(
        "Weights",
        "Memory of the prepared weights on the replica that has most: by model, and of all models, which the limit "
        "is for.",
        [
            query(weights, "{{model}}"),
            *of_limit(
                f"max({by('instance', f'safeserve_model_weight_bytes{{{REPLICA}}}')})", "all models",
                "safeserve_weight_limit_bytes",
            ),
        ],
        "bytes", limits=("limit",),
    )  # fmt: skip
    page.lines(
        "Bodies, rows and answers", "Memory of requests in flight beyond 16 KiB each. Normal: 0 with small requests.",
        of_limit(f"safeserve_inflight_body_bytes{{{REPLICA}}}", "{{instance}}", "safeserve_inflight_body_limit_bytes"),
        "bytes", limits=("limit",),
    )  # fmt: skip
    page.lines(
        "Connections", "Open now, over all listeners.",
        of_limit(f"safeserve_connections_open{{{REPLICA}}}", "{{instance}}", "safeserve_connections_limit"),
        "short", limits=("limit",),
    )  # fmt: skip
    ended = rate("safeserve_connections_closed_total", f'{REPLICA},reason!="done"')
    page.lines(
        "Connections that came and went", "Accepted, refused, and ended by anything but their client.",
        [
            query(total(rate("safeserve_connections_accepted_total", REPLICA)), "accepted"),
            query(by("reason", rate("safeserve_connections_refused_total", REPLICA)), "refused: {{reason}}"),
            query(by("reason", ended), "{{reason}}"),
        ],
        "cps",
    )  # fmt: skip
    page.lines(
        "File descriptors", "Open, and as many as a replica may have.",
        of_limit(f"process_open_fds{{{REPLICA}}}", "{{instance}}", "process_max_fds"), "short", limits=("limit",),
    )  # fmt: skip


def models(page: Page) -> None:
    page.row("Models")
    version = "instance, model, version"
    page.table(
        "Versions",
        "What each replica serves, and what it refuses. Normal: the same on all replicas, every state ready.",
        [
            query(f"max by ({version}, state) (safeserve_model_state{{{MODEL}}})"),
            query(f"max by ({version}, fingerprint) (safeserve_model_info{{{MODEL}}})"),
            # Grafana takes times in milliseconds.
            query(f"max by ({version}) (safeserve_model_load_timestamp_seconds{{{MODEL}}}) * 1000"),
            query(f"max by ({version}) (safeserve_model_load_duration_seconds{{{MODEL}}})"),
            query(f"max by ({version}) (safeserve_model_weight_bytes{{{MODEL}}})"),
            query(f"max by ({version}) (safeserve_model_batch_limit_rows{{{MODEL}}})"),
        ],
        {
            "model": "Model", "version": "Version", "instance": "Replica", "state": "State", "Value #C": "Loaded",
            "Value #D": "Load took", "Value #E": "Weights", "Value #F": "Rows a pass", "fingerprint": "Fingerprint",
        },
        ["Time", "Value #A", "Value #B"],
        {"Loaded": "dateTimeAsIso", "Load took": "s", "Weights": "bytes"},
    )  # fmt: skip
    page.lines(
        "Versions by state", "Over the chosen replicas. Normal: all ready.",
        [query(by("state", f"safeserve_models{{{REPLICA}}}"), "{{state}}")], "short", width=12, stacked="normal",
    )  # fmt: skip
    page.lines(
        "Loads by result", "Tries to load a version's files. refused: they cannot be served, and the log says why.",
        [query(by("result", increase("safeserve_model_loads_total", REPLICA)), "{{result}}")], "short", width=12,
    )  # fmt: skip


def life(page: Page) -> None:
    page.row("Life and faults")
    page.timeline(
        "Readiness",
        "Normal: ready. A drain lasts half a minute at most, then the replica is away until it starts again.",
        [query(f"safeserve_ready{{{REPLICA}}}", "{{instance}}")],
        {"0": ("draining", YELLOW), "1": ("ready", GREEN)}, width=12,
    )  # fmt: skip
    page.timeline(
        "Liveness",
        "Normal: live. Stalled: work waits and nothing does it, and the orchestrator restarts the replica.",
        [query(f"safeserve_live{{{REPLICA}}}", "{{instance}}")],
        {"0": ("stalled", RED), "1": ("live", GREEN)}, width=12,
    )  # fmt: skip
    page.lines(
        "Faults", "Normal: none.",
        [
            query(total(increase("safeserve_panics_total")), "forward passes that panicked"),
            query(total(increase("safeserve_handler_panics_total", REPLICA)), "handlers that panicked"),
            query(total(increase("safeserve_workers_replaced_total", REPLICA)), "workers replaced"),
            query(total(increase("safeserve_accept_errors_total", REPLICA)), "accepts that failed"),
            query(total(increase("safeserve_log_lines_dropped_total", REPLICA)), "log lines dropped"),
        ],
        "short",
    )  # fmt: skip
    page.lines(
        "Keys and certificates", "stale: a changed file is refused and the version before it goes on. Normal: 0.",
        [
            query(by("file", f"safeserve_file_stale{{{REPLICA}}}"), "{{file}} stale"),
            query(by("file, result", increase("safeserve_file_reads_total", REPLICA)), "{{file}} read: {{result}}"),
        ],
        "short",
    )  # fmt: skip
    page.lines(
        "Age of the process", "Normal: as old as the last rollout.",
        [query(f"time() - process_start_time_seconds{{{REPLICA}}}", "{{instance}}")], "s",
    )  # fmt: skip
    page.lines(
        "Requests in flight", "HTTP requests that are read and not answered yet; the scrape itself is one.",
        [query(f"safeserve_http_requests_in_flight{{{REPLICA}}}", "{{instance}}")], "short", width=12,
    )  # fmt: skip
    page.lines(
        "Versions of the server", "Normal: one, and two during a rollout.",
        [query(f"count by (version) (safeserve_build_info{{{REPLICA}}})", "{{version}}")],
        "short", width=12, stacked="normal",
    )  # fmt: skip


def balancer(page: Page) -> None:
    page.row("Balancer")
    backend = f'{BALANCER},proxy="replicas"'
    page.lines(
        "Answers by code", "As clients see them. Normal: 2xx. All of this row is empty without the HAProxy of "
        "deploy/compose.",
        [query(by("code", rate("haproxy_frontend_http_responses_total", f'{BALANCER},proxy="clients"')), "{{code}}")],
        "reqps", stacked="normal",
    )  # fmt: skip
    page.lines(
        "Errors of the balancer itself", "5xx that no replica sent: none was up, or none answered in time. Normal: 0.",
        [query(f"instance:safeserve_balancer_errors:ratio_rate5m{{{BALANCER}}}", "{{instance}}")],
        "percentunit", thresholds=steps((GREEN, None), (RED, 0.01)),
    )  # fmt: skip
    page.lines(
        "Asked again",
        "Requests that were sent a second time. redispatched: to another replica. Normal: none, a few while a replica "
        "goes.",
        [
            query(total(rate(f"haproxy_backend_{kind}_warnings_total", backend)), name)
            for kind, name in (("retry", "again"), ("redispatch", "redispatched"))
        ],
        "reqps",
    )  # fmt: skip
    page.timeline(
        "Replicas by the balancer", "Whether its checks find them ready. Normal: up.",
        [query(f'haproxy_server_status{{{backend},state="UP"}}', "{{server}}")],
        {"0": ("down", RED), "1": ("up", GREEN)}, width=12,
    )  # fmt: skip
    page.lines(
        "Sessions of the balancer", "Requests that are with a replica, and those that wait for one. Normal: none wait.",
        [
            query(total(f"haproxy_backend_current_sessions{{{backend}}}"), "with a replica"),
            query(total(f"haproxy_backend_current_queue{{{backend}}}"), "waiting"),
        ],
        "short", width=12,
    )  # fmt: skip


def variable(name: str, label: str, expression: str, **options: object) -> dict:
    return {
        "type": "query", "name": name, "label": label, "datasource": SOURCE,
        "query": {"query": expression, "refId": name}, "refresh": 2, "sort": 1,
        "multi": True, "includeAll": True, **options,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }  # fmt: skip


def dashboard() -> dict:
    of_job, of_replicas = 'safeserve_build_info{job=~"$job"}', f"safeserve_model_info{{{REPLICA}}}"
    return {
        "uid": "safeserve",
        "title": "safeserve",
        "description": "What replicas of safeserve are asked, answer and need. For Grafana 12 and 11.6.",
        "tags": ["safeserve"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "links": [
            link("Operations", DOCS),
            link("Metrics", f"{DOCS}#metrics"),
            link("Alerts", f"{DOCS}#alerts"),
        ],
        "templating": {
            "list": [
                {
                    "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus",
                    "refresh": 1, "regex": "", "multi": False, "includeAll": False,
                    "current": {"selected": True, "text": "Prometheus", "value": "prometheus"},
                },
                # All are those in the list: other programs' jobs have series of the same names.
                variable("job", "Job", "label_values(safeserve_build_info, job)"),
                variable("instance", "Replica", f"label_values({of_job}, instance)", allValue=".+"),
                variable("model", "Model", f"label_values({of_replicas}, model)", allValue=".+"),
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Alerts", "datasource": SOURCE, "enable": True, "hide": False, "iconColor": RED,
                    "expr": FIRING,
                },
                # Annotations are asked for each minute: of each start, also of a new pod's, at least one is in the
                # first minute and a half.
                {
                    "name": "Starts", "datasource": SOURCE, "enable": True, "hide": False, "iconColor": "blue",
                    "expr": f"time() - process_start_time_seconds{{{REPLICA}}} < 90",
                },
            ]
        },
        "panels": panels(),
    }  # fmt: skip


def link(title: str, url: str) -> dict:
    return {
        "type": "link", "title": title, "url": url, "icon": "doc", "tooltip": "", "tags": [],
        "asDropdown": False, "targetBlank": True, "includeVars": False, "keepTime": False,
    }  # fmt: skip


def main() -> None:
    text = json.dumps(dashboard(), indent=1) + "\n"
    if "--check" in sys.argv[1:]:
        sys.exit(0 if FILE.read_text() == text else f"{FILE} is not what {Path(__file__).name} writes")
    FILE.write_text(text)


if __name__ == "__main__":
    main()
