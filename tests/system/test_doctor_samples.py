"""The configurations that `pinban doctor` is tested with are some that nginx takes: it judges what really runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.netns import Namespace, unique_prefix
from tests.lab.nginx import SNIPPET
from tests.unit.pinban.nginx_samples import SAMPLES


@pytest.fixture(scope="module")
def host() -> Iterator[Namespace]:
    """nginx binds its ports even when it only tests."""
    host = Namespace(f"{unique_prefix()}-doctor")
    host.create()
    yield host
    host.remove()


@pytest.mark.parametrize("name", SAMPLES)
def test_nginx_takes_the_sample(name: str, host: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "nginx.conf"
    offered = "" if "$pinban_cross_site" in SNIPPET.read_text() else "map $http_x $pinban_cross_site { default 0; }\n"
    file.write_text(f"events {{}}\npid {tmp_path}/pid;\nhttp {{\ninclude {SNIPPET};\n{offered}{SAMPLES[name]}}}\n")
    host.run(["nginx", "-t", "-p", str(tmp_path), "-e", "stderr", "-c", str(file)])
