"""Runs the README as its reader would: the first command, the curl, the Python lines.

And the lines of docs/models.md that compute a fingerprint, against the server's own.

Run from anywhere: python3 tests/readme.py (needs cargo, bash, curl, and port 8080 free)
"""

import ast
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a Markdown text as (language, content)."""
    return re.findall(r"```(\w*)\n(.*?)```", text, flags=re.DOTALL)


def after(all_blocks: list[tuple[str, str]], language: str, containing: str) -> tuple[str, str]:
    """The block that contains a text, and the block after it."""
    for block, following in zip(all_blocks, all_blocks[1:]):
        if block[0] == language and containing in block[1]:
            return block[1], following[1]
    sys.exit(f"README.md: no {language} block with {containing!r}")


def without_what_varies(text: str) -> str:
    """The start's lines without load times and packed sizes, which differ between processors."""
    text = re.sub(r"[\d.]+ k?B", "N B", re.sub(r"[\d.]+ ms", "N ms", text))
    return re.sub(r" +", " ", text).strip()


def alike(actual: object, expected: object) -> bool:
    """Whether two answers are the same but for rounding.

    Kernels of other processors add in another order, so the last digit of a float may differ.
    """
    if isinstance(actual, float) and isinstance(expected, float):
        return abs(actual - expected) <= 1e-6
    if isinstance(actual, dict) and isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(alike(actual[key], expected[key]) for key in actual)
    if isinstance(actual, list) and isinstance(expected, list):
        return len(actual) == len(expected) and all(map(alike, actual, expected))
    return type(actual) is type(expected) and actual == expected


def check(what: str, actual: object, expected: object) -> None:
    if not alike(actual, expected):
        sys.exit(f"{what}: README.md says\n{expected}\nbut it is\n{actual}")
    print(f"ok: {what}")


def main() -> None:
    readme = blocks((ROOT / "README.md").read_text())
    commands, printed = after(readme, "sh", "cargo test")
    command = commands.splitlines()[0].split("#")[0].split()
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        lines = []
        for line in server.stdout:
            lines.append(line)
            if line.startswith("curl "):
                break
        check("what the first command prints", without_what_varies("".join(lines)), without_what_varies(printed))

        curl, answer = after(readme, "sh", "curl http")
        check("the curl is the printed one", curl, lines[-1])
        output = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True).stdout
        check("the curl's answer", json.loads(output), json.loads(answer))

        snippet, answer = after(readme, "python", "urllib")
        output = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=True).stdout
        check("the Python snippet's answer", ast.literal_eval(output), ast.literal_eval(answer))

        lines = next(text for _, text in blocks((ROOT / "docs/models.md").read_text()) if "hashlib" in text)
        command = [sys.executable, "-c", lines]
        output = subprocess.run(
            command, cwd=ROOT / "models/hello-keras", capture_output=True, text=True, check=True
        ).stdout
        said = subprocess.run(
            ["bash", "-c", f"{curl.strip()} -si"], capture_output=True, text=True, check=True
        ).stdout
        said = re.search(r"x-safeserve-model-fingerprint: (\w+)", said)
        check("the fingerprint of docs/models.md", said and said[1], output.strip())
    finally:
        # On Unix `cargo run` becomes the program that it runs.
        server.send_signal(signal.SIGINT)
        code = server.wait(timeout=60)
    check("exit code after Ctrl-C", code, 0)


if __name__ == "__main__":
    main()
