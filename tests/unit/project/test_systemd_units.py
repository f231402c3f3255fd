"""The files for systemd: they name what there is, grant what is needed, and nothing more."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from pinban.doctor.examination import DGRAM_QLEN
from shared.host.realtime import PRIORITY
from shared.settings.declared import declared
from shared.settings.environment import variable_of
from shared.settings.schema import Settings
from tests.lab.process import ROOT

FOLDER = ROOT / "systemd"
UNITS = ("pinban-receiver", "pinban-enforcer")

#: Every directive that the units use, spelled as in systemd.unit(5), systemd.service(5), systemd.exec(5),
#: systemd.resource-control(5) and systemd.kill(5): systemd ignores, with a line in its log, what it does not know.
KNOWN = {
    "Unit": {"Description", "After", "Before", "Wants", "StartLimitIntervalSec"},
    "Service": {
        "Type", "NotifyAccess", "ExecStart", "ExecReload", "KillMode", "Restart", "RestartSec", "WatchdogSec",
        "TimeoutStartSec", "TimeoutStopSec", "User", "Group", "AmbientCapabilities", "CapabilityBoundingSet",
        "LimitRTPRIO", "RuntimeDirectory", "RuntimeDirectoryMode", "LoadCredential", "Environment", "NoNewPrivileges",
        "ProtectSystem", "ReadWritePaths", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectClock",
        "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules",
        "ProtectKernelTunables", "ProtectProc", "RestrictAddressFamilies", "RestrictNamespaces", "RestrictSUIDSGID",
        "LockPersonality", "MemoryDenyWriteExecute", "RemoveIPC", "SystemCallArchitectures", "SystemCallFilter",
        "SystemCallErrorNumber", "UMask",
    },
    "Install": {"WantedBy"},
}  # fmt: skip

#: All that systemd.exec(5) calls sandboxing and that costs neither of them anything they do.
HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RemoveIPC": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "SystemCallErrorNumber": "EPERM",
    "UMask": "0077",
}


def sections(path: Path) -> dict[str, dict[str, str]]:
    """Section -> directive -> value; each directive is there once."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            continue
        key, equals, value = line.partition("=")
        assert equals, line
        assert key not in found[section], line
        found[section][key] = value
    return found


def service(name: str) -> dict[str, str]:
    return sections(FOLDER / f"{name}.service")["Service"]


def lines(path: str) -> list[list[str]]:
    text = (FOLDER / path).read_text(encoding="utf-8")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_knows_its_program_and_systemd_knows_its_words(name: str) -> None:
    unit = sections(FOLDER / f"{name}.service")
    assert unit.keys() == KNOWN.keys()
    for section, directives in unit.items():
        assert directives.keys() <= KNOWN[section]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    program, *arguments = unit["Service"]["ExecStart"].split()
    assert Path(program).name == name
    assert name in scripts
    assert arguments == ["-c", "/etc/pinban/pinban.toml"]


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_ready_when_it_says_so_starts_again_always_and_is_hardened(name: str) -> None:
    told = service(name)
    assert (told["Type"], told["NotifyAccess"], told["Restart"]) == ("notify", "main", "always")
    assert sections(FOLDER / f"{name}.service")["Unit"]["StartLimitIntervalSec"] == "0"
    assert told.items() >= HARDENED.items()
    assert int(told["LimitRTPRIO"]) == PRIORITY
    assert "RestrictRealtime" not in told


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_reads_its_password_from_a_credential(name: str) -> None:
    told = service(name)
    credential, _, source = told["LoadCredential"].partition(":")
    variable, _, path = told["Environment"].partition("=")
    assert variable in map(variable_of, declared())
    assert path == f"%d/{credential}"
    assert source.startswith("/etc/pinban/")


def test_each_runs_as_a_user_of_its_own_with_no_right_too_many() -> None:
    receiver, enforcer = (service(name) for name in UNITS)
    assert receiver["CapabilityBoundingSet"] == receiver["AmbientCapabilities"] == ""
    assert enforcer["CapabilityBoundingSet"] == enforcer["AmbientCapabilities"] == "CAP_NET_ADMIN CAP_NET_RAW"
    for name, told in zip(UNITS, (receiver, enforcer), strict=True):
        assert told["User"] == told["Group"] == name
        assert ["u", name, "-"] in [line[:3] for line in lines(f"sysusers.d/{name}.conf")]
    group = Settings().receiver.socket_group
    assert ["m", "pinban-receiver", group] in lines("sysusers.d/pinban-receiver.conf")


def test_an_enforcer_may_take_the_lock_of_the_tables_and_write_nothing_else() -> None:
    assert service("pinban-enforcer")["ReadWritePaths"] == "-/run/xtables.lock"
    assert lines("tmpfiles.d/pinban-enforcer.conf") == [
        ["f", "/run/xtables.lock", "0660", "root", "pinban-enforcer", "-"]
    ]


def test_an_enforcer_is_armed_before_nginx_and_after_whoever_may_flush() -> None:
    unit = sections(FOLDER / "pinban-enforcer.service")["Unit"]
    assert unit["Before"] == "nginx.service"
    assert {"nftables.service", "netfilter-persistent.service", "docker.service"} <= set(unit["After"].split())
    assert "ExecStop" not in service("pinban-enforcer"), "stopping leaves protection in place"


def test_a_receiver_reloads_by_a_hangup_and_ends_its_workers_itself() -> None:
    """A SIGTERM to each of them would have the arbiter replace workers that only obey."""
    told = service("pinban-receiver")
    assert told["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert told["KillMode"] == "mixed"
    assert int(told["TimeoutStopSec"]) > 10, "longer than gunicorn's graceful_timeout"


def test_the_kernel_gives_the_buffer_that_a_receiver_asks_for() -> None:
    """And lets as many lines wait in a unix socket as `pinban doctor` asks for."""
    assert lines("sysctl.d/pinban-receiver.conf") == [
        ["net.core.rmem_max", "=", str(Settings().receiver.receive_buffer)],
        ["net.unix.max_dgram_qlen", "=", str(DGRAM_QLEN)],
    ]


def test_the_modules_of_all_that_the_rules_use_are_loaded_beforehand() -> None:
    loaded = {line[0] for line in lines("modules-load.d/pinban-enforcer.conf")}
    source = (ROOT / "enforcer" / "xtables" / "rules.py").read_text()
    matches = set(re.findall(r'create_match\("(\w+)"\)', source))
    assert matches
    assert {{"tcp": "xt_tcpudp"}.get(match, f"xt_{match}") for match in matches} <= loaded
    assert {"ipt_REJECT", "ip6t_REJECT", "nf_tables", "nft_reject_inet"} <= loaded
    assert {"ip_tables", "ip6_tables", "iptable_filter", "ip6table_filter"} <= loaded
    assert {"ip_set_hash_net", "ip_set_bitmap_port"} <= loaded
