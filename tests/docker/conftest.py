"""The engine for every check: the images are built, the network is empty."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.engine import DIRECTORY, Engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """dockerd in this process's network namespace."""
    engine = Engine(Path(os.environ[DIRECTORY]))
    engine.start()
    yield engine
    engine.stop()
