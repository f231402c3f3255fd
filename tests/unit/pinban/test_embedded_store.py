"""Which server program the embedded store runs: one of the host's."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinban.local.embedded import find_server
from shared.errors import PinbanError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("installed", [["redis-server"], ["valkey-server"], ["redis-server", "valkey-server"]])
def test_redis_is_taken_where_it_is_installed_else_valkey(path: Path, installed: list[str]) -> None:
    for name in installed:
        (path / name).touch(mode=0o755)
    assert find_server() == str(path / installed[0])


@pytest.mark.usefixtures("path")
def test_without_a_server_the_debian_package_is_named() -> None:
    with pytest.raises(PinbanError, match=r"^[^\n]*apt-get install redis-server[^\n]*$"):
        find_server()
