"""Python environments of the tests, made from lists of requirements."""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path


def python_with(requirements: Path, environment: Path) -> Path:
    """The Python of an environment that has these requirements; made once for each content of their list."""
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    mark = environment / "made-from"
    python = environment / "bin" / "python"
    if not mark.is_file() or mark.read_text() != wanted:
        print(f"installing {requirements} into {environment}", file=sys.stderr)
        venv.create(environment, clear=True, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", requirements], check=True)
        mark.write_text(wanted)
    return python
