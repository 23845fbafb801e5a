"""Real components from Debian's archive: used if installed, else fetched once, else skipped."""

import os
import shutil
import subprocess
from pathlib import Path

from suite import ROOT, Skip

UNPACKED = ROOT / "target" / "reliability" / "debian"


def haproxy() -> str:
    return program("haproxy", "haproxy", "usr/sbin/haproxy", install=True)


def promtool() -> str:
    # Only unpacked: installing the package would start a server.
    return program("promtool", "prometheus", "usr/bin/promtool")


def libfaketime() -> str:
    """The library that shifts a program's clocks, for LD_PRELOAD."""
    for found in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"):
        return str(found)
    unpack("libfaketime")
    for found in UNPACKED.glob("usr/lib/*/faketime/libfaketimeMT.so.1"):
        return str(found)
    raise Skip("skipped: no libfaketime, and apt-get cannot fetch it")


def program(name: str, package: str, place: str, install: bool = False) -> str:
    # Debian's programs for services are not on every user's path.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found:
        return found
    if install:
        # RUNLEVEL: installing starts no service.
        apt("install", "-y", "--no-install-recommends", package, environment={"RUNLEVEL": "1"})
        found = shutil.which(name, path=path)
        if found:
            return found
    unpack(package)
    if (UNPACKED / place).exists():
        return str(UNPACKED / place)
    raise Skip(f"skipped: no {name}, and apt-get cannot fetch the package {package}")


def unpack(package: str) -> None:
    UNPACKED.mkdir(parents=True, exist_ok=True)
    if apt("download", package):
        for file in UNPACKED.glob(f"{package}_*.deb"):
            subprocess.run(["dpkg-deb", "-x", file, UNPACKED], check=False)


def apt(*arguments: str, environment: dict[str, str] | None = None) -> bool:
    if not shutil.which("apt-get"):
        return False
    command = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", *arguments]
    options = {
        "cwd": UNPACKED if UNPACKED.exists() else None,
        "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"} | (environment or {}),
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    if subprocess.run(command, check=False, **options).returncode == 0:
        return True
    # Without lists of packages nothing is found: a fresh machine has none.
    subprocess.run(["apt-get", "-qq", "update"], check=False, **options)
    return subprocess.run(command, check=False, **options).returncode == 0
