"""What `run` runs, in the Python that has the clients."""

import argparse
import importlib
import sys
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "reliability")]

import document  # noqa: E402
from calls import Row, Site, calls  # noqa: E402
from server import end_all  # noqa: E402

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
    for client in CLIENTS:
        if not options.names or any(client.startswith(name) for name in options.names):
            importlib.import_module(f"clients.{client}")
    if options.list:
        for call in calls:
            print(f"{call.client:24}  {call.name}")
        return 0
    started = time.monotonic()
    rows: list[Row] = []
    try:
        with Site() as site:
            print("client | call | state")
            for call in calls:
                row = call.run(site)
                rows.append(row)
                print(f"{row.client} | {row.call} | {row.state}{row.note and ': ' + row.note}", flush=True)
    finally:
        end_all()
    failed = sum(row.state == "FAIL" for row in rows)
    print(f"\n{len(rows) - failed} calls of {len({row.client for row in rows})} clients do what they should, "
          f"{failed} do not; {time.monotonic() - started:.0f} s")
    if options.docs:
        document.write(rows, version)
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/conformance/run")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--docs", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
