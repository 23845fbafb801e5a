"""What `run` runs, in the Python that has the clients."""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "reliability")]

import document  # noqa: E402
from calls import Row, Site, calls, site  # noqa: E402
from server import end_all, running, start  # noqa: E402

# A module for each client, in the order of the table.
CLIENTS = [
    "triton_http",
    "triton_grpc",
    "kserve_client",
    "tensorflow_serving_rest",
    "tensorflow_serving_grpc",
    "mlflow_client",
    "sagemaker_and_vertex",
    "grpc_services",
    "openai_client",
    "documentation",
    "openapi",
]


def main() -> int:
    options = parse()
    if options.site:
        return of_one_client(options.names[0], Site.from_json(options.site))
    chosen = [name for name in CLIENTS if not options.names or any(map(name.startswith, options.names))]
    started = time.monotonic()
    rows: list[Row] = []
    try:
        with site() as here:
            print("client | call | state", flush=True)
            for name in chosen:
                rows += ask(name, here)
    finally:
        end_all()
    failed = sum(row.state == "FAIL" for row in rows)
    print(
        f"\n{len(rows) - failed} calls of {len({row.client for row in rows})} clients do what they should, "
        f"{failed} do not; {time.monotonic() - started:.0f} s"
    )
    if options.docs:
        document.write(rows, version)
    return 1 if failed else 0


def ask(name: str, here: Site) -> list[Row]:
    """Runs a client in a process of its own: two that know the same messages cannot share one."""
    command = [sys.executable, __file__, name, "--site", here.to_json()]
    client = start(command, stdout=subprocess.PIPE, text=True)
    rows = [Row(**json.loads(line)) for line in client.stdout]
    for row in rows:
        print(f"{row.client} | {row.call} | {row.state}{row.note and ': ' + row.note}", flush=True)
    code = client.wait()
    running.discard(client)
    if code != 0 or not rows:
        rows.append(Row(name, "all of it", "FAIL", f"it ended with {code} and {len(rows)} results"))
        print(rows[-1])
    return rows


def of_one_client(name: str, here: Site) -> int:
    importlib.import_module(f"clients.{name}")
    # What clients print is not a result.
    results, sys.stdout = sys.stdout, sys.stderr
    try:
        for call in calls:
            print(json.dumps(asdict(call.run(here))), file=results, flush=True)
    finally:
        end_all()
    # Threads of clients that do not end do not matter.
    os._exit(0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/conformance/run")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CLIENTS))
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--site", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
