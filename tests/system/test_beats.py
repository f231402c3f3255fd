"""Numbered beats through real nginx: what comes is seen, what gets lost is missed, and who may not beat does not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab.lab import Lab, ReverseProxy
from tests.lab.process import wait_until
from tests.lab.views import node, operate
from tests.lab.wires import CORE

URL = "http://127.0.0.1:8515/.pinban/beat"

#: Five beats a second; a cut is then one of 25 beats, 5 s.
BEATS: dict[str, Any] = {"enforcer": {"beat_url": URL, "beat_every": "200ms"}}

PORT = 8515

PATH = "/.pinban/beat/rp1/0123abcd/1/1795356738348"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rps=2, settings=BEATS) as lab:
        wait_until(lambda: len(log(lab)) == 2 and not problems(lab), "both logs are seen")
        yield lab


def status(lab: Lab) -> dict[str, Any]:
    shown = operate(lab, "status", "--json")
    report: dict[str, Any] = json.loads(shown.stdout)
    assert shown.returncode == (1 if report["problems"] else 0)
    return report


def log(lab: Lab) -> dict[str, dict[str, Any]]:
    """The row of each RP, seen by the one receiver."""
    return {row["rp"]: row for row in status(lab)["log"]}


def held(lab: Lab, rp: str) -> dict[str, Any]:
    """What Redis holds of an RP's beats at rx1."""
    with lab.redis.client() as client:
        found: dict[str, Any] = json.loads(client.hget("{pinban}:beats", f"rx1 {rp}") or b"{}")
        return found


def problems(lab: Lab) -> list[str]:
    found: list[str] = status(lab)["problems"]
    return found


def receiver_log(lab: Lab) -> str:
    assert lab.receiver
    return lab.receiver.log.read_text()


def drop(rp: ReverseProxy, *match: str) -> list[str]:
    """A rule of the RP's firewall against its datagrams to the receiver; to be taken out with `remove`."""
    rule = ["OUTPUT", "-p", "udp", "-d", CORE, "--dport", "5514", *match, "-j", "DROP"]
    rp.host.namespace.run(["iptables-legacy", "-I", *rule])
    return rule


@contextmanager
def dropping(rp: ReverseProxy, *match: str) -> Iterator[None]:
    rule = drop(rp, *match)
    try:
        yield
    finally:
        rp.host.namespace.run(["iptables-legacy", "-D", *rule])


def whole(lab: Lab, rp: str) -> bool:
    """Sixty beats in a row have come, the last one just now."""
    row = held(lab, rp)
    return bool(row["window"] == "1" * 60)


def advanced(lab: Lab, rp: str, last: int) -> bool:
    return bool(held(lab, rp)["last"] > last)


def test_beats_arrive_and_status_shows_them(lab: Lab) -> None:
    report = status(lab)
    assert report["problems"] == []
    for row in report["log"]:
        assert row["receiver"] == "rx1"
        assert row["missing"] == 0
        assert row["silent_ms"] < 3_000
        assert 0 <= row["lag_ms"] < 500
    shown = operate(lab, "status")
    assert shown.returncode == 0
    assert re.search(r"rp1 +rx1 +\S+ ago +0 of \d+", shown.stdout)


def test_a_beat_is_an_outcome_and_no_failure(lab: Lab) -> None:
    totals = node(lab.redis, "rx1")
    assert int(totals["beat"]) > 0
    assert totals["received"] == totals["beat"]
    assert totals["malformed"] == totals["failures"] == "0"


def test_a_cut_route_is_an_alarm_within_seconds_and_its_healing_is_told(lab: Lab) -> None:
    rp = lab.rps[0]
    with dropping(rp):
        wait_until(lambda: bool(problems(lab)), "status tells", 20)
        [problem] = problems(lab)
        assert "rp1: no line of its nginx has come to rx1 for" in problem
        wait_until(lambda: "rp1: no line of its nginx has come to rx1" in receiver_log(lab), "the log tells", 20)
    wait_until(lambda: not problems(lab), "status is content again", 10)
    wait_until(lambda: "rp1: the lines of its nginx come again" in receiver_log(lab), "the log tells that, too", 10)
    assert receiver_log(lab).count("no line of its nginx") == 1, "once, by one of two workers"
    assert "rp2:" not in receiver_log(lab)
    assert log(lab)["rp1"]["missing"] > 0
