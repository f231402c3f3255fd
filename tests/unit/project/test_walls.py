"""Who may import whom, and what every module owes its reader."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.process import ROOT

PACKAGES = ("shared", "receiver", "enforcer", "pinban")

#: What each package may not import.
FORBIDDEN = {
    "shared": {"receiver", "enforcer", "pinban"},
    "receiver": {"enforcer", "pinban"},
    "enforcer": {"receiver", "pinban"},
    "pinban": {"enforcer"},
}

#: Modules without clock, socket, Redis or subprocess.
PURE = (
    *(f"enforcer/{name}.py" for name in ("reconcile", "position", "desired")),
    *(f"receiver/{name}.py" for name in ("lines", "paths", "syslog", "classes", "verdict", "failures", "routes")),
    *(f"shared/{name}.py" for name in ("addresses", "beats", "events", "keys", "durations", "steps")),
)

IMPURE = {"redis", "subprocess", "time", "threading", "os", "select", "signal"}

#: Of socket, the functions that convert bytes and ask nobody.
CONVERSIONS = {"inet_pton", "inet_ntop", "AF_INET", "AF_INET6"}

#: Lines that a reader scrolls through, at most.
LONGEST_MODULE = 260

MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[tuple[str, set[str]]]:
    """Every module imported anywhere in the file, with the names taken from it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, set()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            yield node.module or "", {alias.name for alias in node.names}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_imports_what_its_package_may_not(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    imported = {module.partition(".")[0] for module, _ in imports(path)}
    assert not imported & FORBIDDEN[package]
    assert "tests" not in imported


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_imports_no_clock_socket_redis_or_process(name: str) -> None:
    for module, names in imports(ROOT / name):
        assert module.partition(".")[0] not in IMPURE
        if module == "socket":
            assert names, "the whole socket module"
            assert names <= CONVERSIONS


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_lives_in_it(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_longer_than_one_cares_to_scroll(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < LONGEST_MODULE
