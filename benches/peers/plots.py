"""Draws the plots of docs/plots/ from what benches/peers/run measured.

`plots.py RESULTS PLOTS` reads RESULTS/servers.json and RESULTS/engines.json, whichever is there.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

# Told apart without colours too: each has its own marker and dashes.
STYLES = {
    "safeserve": {"color": "#c2410c", "marker": "o", "linewidth": 2.4, "zorder": 5},
    "parsing": {"color": "#6b7280", "marker": "", "linestyle": (0, (4, 2))},
    "constant": {"color": "#9ca3af", "marker": "", "linestyle": (0, (1, 1.5))},
    "FastAPI": {"color": "#0f766e", "marker": "s"},
    "mosec": {"color": "#1d4ed8", "marker": "^"},
    "Triton": {"color": "#7e22ce", "marker": "D"},
    "ONNX Runtime": {"color": "#1d4ed8", "marker": "^"},
    "OpenVINO": {"color": "#0f766e", "marker": "s"},
}
NAMES = {
    "parsing": "bare handler that parses",
    "constant": "bare handler",
    "FastAPI": "FastAPI + ONNX Runtime",
    "mosec": "mosec + ONNX Runtime",
    "Triton": "Triton + ONNX Runtime (Python backend)",
}
TITLES = {"digits": "64-256-128-10", "large": "784-2048-2048-1000"}

plt.rcParams.update(
    {
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#9ca3af",
        "axes.grid": True,
        "grid.color": "#e5e7eb",
        "lines.linewidth": 1.6,
        "lines.markersize": 5,
        "legend.frameon": False,
        # The same bytes for the same numbers; text as shapes, so that fonts do not matter.
        "svg.hashsalt": "safeserve",
        "svg.fonttype": "path",
        "figure.facecolor": "white",
    }
)


def short(value: float, _position: int = 0) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def panels(ylabel: str, xlabel: str):
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 3.6), layout="constrained")
    for axis, title in zip(axes, TITLES.values()):
        axis.set(xscale="log", yscale="log", title=title, xlabel=xlabel)
        axis.yaxis.set_major_formatter(FuncFormatter(short))
        axis.yaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel(ylabel)
    return figure, axes


def ticks(axis, numbers: list[int]) -> None:
    axis.set_xticks(numbers, [f"{n}" for n in numbers])
    axis.xaxis.set_minor_locator(NullLocator())


def save(figure, axes, file: Path) -> None:
    handles = {label: handle for a in axes for handle, label in zip(*a.get_legend_handles_labels())}
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=9
    )
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def over_connections(results: dict, figure_name: str, ylabel: str, scale: float, file: Path) -> None:
    """One line a server; a band from the least to the most of the rounds."""
    figure, axes = panels(ylabel, "connections")
    for axis, network in zip(axes, results["networks"]):
        rows = network["rows"]
        for server in dict.fromkeys(row["server"] for row in rows):
            own = [row for row in rows if row["server"] == server]
            x = [row["connections"] for row in own]
            y = {key: [row[figure_name][key] * scale for row in own] for key in ("median", "min", "max")}
            style = STYLES.get(server, {})
            axis.plot(x, y["median"], label=NAMES.get(server, server), **style)
            axis.fill_between(x, y["min"], y["max"], color=style.get("color"), alpha=0.12, linewidth=0)
        ticks(axis, sorted({row["connections"] for row in rows}))
    save(figure, axes, file)


def over_rows(results: dict, file: Path) -> None:
    """Rows a second over the rows of a batch: full lines one thread, dashed two."""
    figure, axes = panels("rows/s", "rows a batch")
    for axis, network in zip(axes, TITLES):
        for engine, threads in results[network].items():
            for count, by_rows in threads.items():
                x = [int(rows) for rows in by_rows]
                y = [int(rows) / least * 1e6 for rows, least in by_rows.items()]
                style = dict(STYLES[engine])
                if count != "1":
                    style |= {"linestyle": (0, (4, 2)), "markerfacecolor": "white"}
                label = engine + (", 1 thread" if count == "1" else f", {count} threads")
                axis.plot(x, y, label=label, **style)
        ticks(axis, x)
    save(figure, axes, file)


def main() -> None:
    results, plots = map(Path, sys.argv[1:3])
    plots.mkdir(parents=True, exist_ok=True)
    if (results / "servers.json").exists():
        servers = json.loads((results / "servers.json").read_text())
        over_connections(servers, "requests_per_second", "requests/s", 1, plots / "throughput.svg")
        over_connections(servers, "p99_us", "p99 latency, ms", 1e-3, plots / "p99.svg")
    if (results / "engines.json").exists():
        over_rows(json.loads((results / "engines.json").read_text()), plots / "batch-size.svg")


if __name__ == "__main__":
    main()
