"""What the tests of the deployment have in common."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import engine
from engine import PREFIX, SCRATCH


@pytest.fixture(scope="session", autouse=True)
def scratch() -> Path:
    SCRATCH.mkdir(parents=True, exist_ok=True)
    return SCRATCH


@pytest.fixture(scope="session")
def docker_engine(scratch: Path) -> None:
    """Skips where there is no Docker Engine."""
    if absent := engine.why_absent():
        pytest.skip(absent)


@pytest.fixture(scope="session")
def image(docker_engine: None) -> Iterator[str]:
    """The server's image, without models."""
    tag = f"{PREFIX}:server"
    engine.build(None, tag, log=SCRATCH / "build.log")
    yield tag


@pytest.fixture(scope="session")
def samples_image(image: str) -> Iterator[str]:
    """The image with the models of models/."""
    tag = f"{PREFIX}:samples"
    engine.build("samples", tag)
    yield tag
