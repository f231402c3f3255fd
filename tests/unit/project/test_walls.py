"""Who may import whom, by folder. docs/architecture.md says what each folder is for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.process import ROOT

#: The packages that are installed, with those that each may import.
SIDES = {
    "shared": set[str](),
    "receiver": {"shared"},
    "enforcer": {"shared"},
    "pinban": {"shared", "receiver"},
}

#: Folders that decide, and neither look nor act.
PURE = ("receiver/lines", "receiver/failregex")

#: What nothing pure imports: clocks, sockets, files, threads, processes, Redis.
EFFECTS = {
    "asyncio", "fcntl", "http", "io", "mmap", "multiprocessing", "os", "pathlib", "redis", "select", "selectors",
    "shutil", "signal", "smtplib", "socket", "ssl", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip

#: Of socket, the functions that convert bytes and ask nobody.
CONVERSIONS = {"inet_pton", "inet_ntop", "AF_INET", "AF_INET6"}

#: What a folder may not import at all, for a reason of its own.
FORBIDDEN = {
    "receiver/spool": {"redis", "shared.store", "shared.ledger"},  # it outlives a worker, and a Redis that is away
    "receiver/failregex": set(SIDES),  # fail2ban's language, of use to others
    "enforcer/xtables": {"redis", "shared", "msgpack", "msgspec"},  # a child that starts in milliseconds and may crash
}


@dataclass(frozen=True)
class Import:
    """One module that a file imports."""

    module: str
    names: frozenset[str]  #: taken from it, none by `import module`
    line: int


def files(folder: Path = ROOT) -> list[Path]:
    return [path for side in SIDES for path in sorted((folder / side).rglob("*.py"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[Import]:
    """Every import anywhere in the file; `from a import b` of a module b counts as an import of a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, frozenset(), node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            assert node.module is not None
            names = {alias.name for alias in node.names}
            modules = {name for name in names if is_module(f"{node.module}.{name}")}
            yield from (Import(f"{node.module}.{name}", frozenset(), node.lineno) for name in modules)
            if names - modules:
                yield Import(node.module, frozenset(names - modules), node.lineno)


def is_module(dotted: str) -> bool:
    place = ROOT.joinpath(*dotted.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def walls_around(module: str, importer: str) -> str | None:
    """The outermost sub-package that holds the module, is not the module, and does not hold the importer."""
    parts = module.split(".")
    for length in range(2, len(parts)):
        package = ".".join(parts[:length])
        if not within(importer, package):
            return package
    return None


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def says_pure(path: Path) -> bool:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return "Pure." in text or "Pure:" in text or "Pure;" in text


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_no_side_imports_another_side_than_it_may(path: Path) -> None:
    side = path.relative_to(ROOT).parts[0]
    sides = {each.module.partition(".")[0] for each in imports(path)}
    assert not sides & ({*SIDES, "tests", "bench"} - {side} - SIDES[side])


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_nobody_imports_the_inside_of_a_package(path: Path) -> None:
    """The __init__ of a sub-package names what others may use; they do not import its other files."""
    inside = {each.module: walls_around(each.module, dotted(path)) for each in imports(path) if is_module(each.module)}
    assert {module: package for module, package in inside.items() if package} == {}


@pytest.mark.parametrize("path", [p for p in files() if name_of(p).startswith(PURE) or says_pure(p)], ids=name_of)
def test_what_is_pure_imports_no_clock_socket_file_redis_or_process(path: Path) -> None:
    for each in imports(path):
        top = each.module.partition(".")[0]
        if top == "socket" and each.names and each.names <= CONVERSIONS:
            continue
        assert top not in EFFECTS, f"{name_of(path)}:{each.line} imports {each.module}"
        assert not within(each.module, "shared.store"), f"{name_of(path)}:{each.line} reaches for Redis"


@pytest.mark.parametrize(("folder", "forbidden"), FORBIDDEN.items())
def test_a_folder_imports_nothing_that_its_purpose_forbids(folder: str, forbidden: set[str]) -> None:
    inner = folder.replace("/", ".")
    for path in sorted((ROOT / folder).rglob("*.py")):
        for each in imports(path):
            bad = [one for one in forbidden if within(each.module, one) and not within(each.module, inner)]
            assert not bad, f"{name_of(path)}:{each.line} imports {each.module}"


@pytest.mark.parametrize("script", sorted(ROOT.glob("*/*/*.lua")), ids=name_of)
def test_a_script_lies_beside_its_only_caller(script: Path) -> None:
    call = re.compile(rf'script\("{re.escape(dotted(script.parent))}",[^)]*"{script.stem}"')
    callers = {path.parent for path in files() if call.search(path.read_text(encoding="utf-8"))}
    assert callers == {script.parent}


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_only_the_store_speaks_redis_py(path: Path) -> None:
    """An adapter raises our errors only, because no other code catches a RedisError. The embedded store's start
    waits for a server that is not yet one."""
    if not name_of(path).startswith(("shared/store/", "pinban/local/")):
        assert "redis" not in {each.module.partition(".")[0] for each in imports(path)}


def test_the_walls_stand_where_they_are_drawn() -> None:
    """The folders named here exist, or the tests above would hold nothing."""
    for folder in (*PURE, *FORBIDDEN):
        assert len(list((ROOT / folder).glob("*.py"))) > 1, folder
    assert walls_around("shared.store.keys", "receiver.worker") == "shared.store"
    assert walls_around("shared.store.keys", "shared.store.connection") is None
    assert walls_around("enforcer.firewall.nftables.sets", "enforcer.firewall.choose") == "enforcer.firewall.nftables"
