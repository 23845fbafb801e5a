"""The lines of docs/clients.md, as their reader would paste them."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from calls import Site, call

PAGE = Path(__file__).resolve().parent.parent.parent.parent / "docs" / "clients.md"
BLOCK = re.compile(r"^### (.+?)$|^```(python|sh)\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def register() -> None:
    title = ""
    for found in BLOCK.finditer(PAGE.read_text()):
        heading, language, code, printed = found.groups()
        if heading:
            title = heading
            continue
        add(title, language, code, printed)


def add(title: str, language: str, code: str, printed: str | None) -> None:
    @call("docs/clients.md", f"{title} ({language})")
    def run(site: Site) -> None:
        here = code.replace("127.0.0.1:8080", site.http).replace("127.0.0.1:9000", site.grpc)
        command = [sys.executable, "-c", here] if language == "python" else ["bash", "-euo", "pipefail", "-c", here]
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-600:] + done.stdout[-200:]
        if printed is not None:
            given, expected = alike(done.stdout), alike(printed)
            assert given == expected, f"printed {done.stdout!r}, the page says {printed!r}"


def alike(text: str) -> str:
    """Without what differs between processors: the last digits of a number."""
    return NUMBER.sub(lambda found: f"{float(found[0]):.4g}", " ".join(text.split()))


register()
