"""What the tests of the deployment have in common."""

import os
from pathlib import Path

import pytest

import engine
from engine import ROOT

pytest_plugins = ["scraped"]


@pytest.fixture(scope="session")
def program() -> str:
    """The path of the program under test."""
    path = Path(os.environ.get("SAFESERVE") or ROOT / "target" / "release" / "safeserve")
    if not path.is_file():
        pytest.skip(f"no {path}: tests/deploy/run builds it")
    return str(path)


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """Skips where there is no Docker Engine, or no way to make base images."""
    if absent := engine.why_absent():
        pytest.skip(absent)
    try:
        engine.debian_image()
    except engine.Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def revision() -> tuple[str, str]:
    """The build argument that labels an image with its commit."""
    return "--build-arg", f"REVISION={engine.output('git', '-C', str(ROOT), 'rev-parse', 'HEAD')}"


@pytest.fixture(scope="session")
def image(docker_engine: None, revision: tuple[str, str]) -> str:
    """The server's image, without models."""
    return engine.built("server", *revision)


@pytest.fixture(scope="session")
def samples_image(image: str, revision: tuple[str, str]) -> str:
    """The image with the models of models/."""
    return engine.built("samples", "--target", "samples", *revision)
