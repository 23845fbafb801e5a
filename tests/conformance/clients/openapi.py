"""schemathesis: everything that the server's own description allows and forbids, against the server."""

import subprocess
import sys
from pathlib import Path

import httpx

from calls import Site, call, equal
from suite import ROOT

SECONDS = 60
LOG = ROOT / "target" / "conformance" / "schemathesis.log"
CONFIG = Path(__file__).resolve().parent.parent / "schemathesis.toml"


@call("openapi.json", "is a valid OpenAPI 3.1 document; /docs shows it")
def document(site: Site) -> None:
    found = httpx.get(f"http://{site.http}/openapi.json", timeout=10)
    equal(found.json()["openapi"][:3], "3.1")
    page = httpx.get(f"http://{site.http}/docs/", timeout=10, follow_redirects=True)
    equal(page.status_code, 200)
    assert "swagger" in page.text.lower()


@call("schemathesis", f"all checks for {SECONDS} s")
def schemathesis(site: Site) -> None:
    program = Path(sys.executable).parent / "schemathesis"
    command = [program, "--config-file", CONFIG, "run", f"http://{site.http}/openapi.json", "--checks", "all"]
    # The same cases each time, as far as the time goes.
    command += ["--max-time", str(SECONDS), "--seed", "1"]
    # It keeps notes where it runs.
    options = {"cwd": site.scratch, "capture_output": True, "text": True, "timeout": SECONDS * 5}
    done = subprocess.run(list(map(str, command)), **options)
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.write_text(done.stdout + done.stderr)
    summary = " ".join(done.stdout[done.stdout.rfind("Failures:") :].split())
    assert done.returncode == 0, f"{LOG} has it all: {summary}"
