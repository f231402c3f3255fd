"""Numbered probes through real nginx: what comes is seen, what gets lost is missed, and who may not probe does not."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from tests.lab.daemons import COMMON, RECEIVER, Receiver, merge
from tests.lab.datagrams import Sender
from tests.lab.lab import Lab, ReverseProxy
from tests.lab.process import wait_until
from tests.lab.views import node, number, operate
from tests.lab.wires import CORE

URL = "http://127.0.0.1:8515/.pinban/probe"

#: Four rounds of two probes a second; a cut is then one of 50 probes, some 6 s.
PROBES: dict[str, Any] = {"enforcer": {"probe_url": URL, "probe_every": "200ms"}}


#: How status shows a path without loss.
SHOWN = r"rp1 +rx1 +[\w ]+ ago +0 of \d+"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Every nginx sends to two receivers, the second of which the lab knows nothing of."""
    with Lab(rps=2, settings=PROBES, receivers=(f"{CORE}:5514", f"{CORE}:5516")) as lab:
        mine = {"receiver": {"node": "rx2", "listen": [f"udp:{CORE}:5516"], "http": "127.0.0.1:8518"}}
        told = merge(merge(merge(RECEIVER, COMMON), {"redis": {"url": lab.redis.url}}), mine)
        second = Receiver(told, lab.directory / "second", lab.core.namespace)
        second.start()
        try:
            wait_until(lambda: len(status(lab)["log"]) == 4 and not problems(lab), "every path is seen")
            yield lab
        finally:
            second.stop()


def status(lab: Lab) -> dict[str, Any]:
    shown = operate(lab, "status", "--json")
    report: dict[str, Any] = json.loads(shown.stdout)
    assert shown.returncode == (1 if report["problems"] else 0)
    return report


def held(lab: Lab, rp: str) -> dict[str, Any]:
    """What Redis holds of an RP's probes at rx1."""
    with lab.redis.client() as client:
        found: dict[str, Any] = json.loads(client.hget("{pinban}:probes", f"rx1 {rp}") or b"{}")
        return found


def problems(lab: Lab) -> list[str]:
    found: list[str] = status(lab)["problems"]
    return found


def receiver_log(lab: Lab) -> str:
    assert lab.receiver
    return lab.receiver.log.read_text()


@contextmanager
def dropping(rp: ReverseProxy, *match: str, port: int = 5514) -> Iterator[None]:
    """Inside the block the RP's firewall drops its datagrams to the receiver, or those that match."""
    rule = ["OUTPUT", "-p", "udp", "-d", CORE, "--dport", str(port), *match, "-j", "DROP"]
    rp.host.namespace.run(["iptables-legacy", "-I", *rule])
    try:
        yield
    finally:
        rp.host.namespace.run(["iptables-legacy", "-D", *rule])


def has_passed(lab: Lab, rp: str, probes: int) -> Callable[[], bool]:
    """Whether so many probes have come since this was asked."""
    last = held(lab, rp)["last"]
    return lambda: held(lab, rp)["last"] >= last + probes


def test_probes_arrive_and_status_shows_them(lab: Lab) -> None:
    report = status(lab)
    assert report["problems"] == []
    paths = [(row["rp"], row["receiver"]) for row in report["log"]]
    assert paths == [("rp1", "rx1"), ("rp1", "rx2"), ("rp2", "rx1"), ("rp2", "rx2")]
    wait_until(lambda: all(map(is_prompt, status(lab)["log"])), "every path is prompt and whole")
    wait_until(lambda: re.search(SHOWN, operate(lab, "status").stdout) is not None, "status shows it")


def is_prompt(row: dict[str, Any]) -> bool:
    return (row["missing"], row["lag_ms"] is None) == (0, False) and row["silent_ms"] < 3_000 and row["lag_ms"] < 500


def test_a_probe_is_an_outcome_and_no_failure(lab: Lab) -> None:
    totals = node(lab.redis, "rx1")
    assert int(totals["probe"]) > 0
    assert totals["received"] == totals["probe"]
    assert totals["malformed"] == totals["failures"] == "0"


def test_one_lost_datagram_in_five_is_measured_and_told(lab: Lab) -> None:
    rp = lab.rps[1]
    assert rp.enforcer
    with dropping(rp, "-m", "statistic", "--mode", "nth", "--every", "5", "--packet", "0"):
        wait_until(has_passed(lab, "rp2", 16), "the last probe before it has been told of")
        last = held(lab, "rp2")["last"]
        wait_until(has_passed(lab, "rp2", 21), "twenty probes")
        wait_until(lambda: window_since(lab, "rp2", last)[:20].count("0") == 4, "four of them are lost")
        wait_until(lambda: bool(problems(lab)), "status tells")
        assert re.search(r"rp2: \d+ of the last \d+ probes through its nginx did not come to rx1", problems(lab)[0])
        wait_until(lambda: "probes through its nginx did not come to rx1" in receiver_log(lab), "the log tells")
    assert len(problems(lab)) == 1, "that was one path of four"


def test_an_enforcer_that_starts_anew_begins_a_new_window(lab: Lab) -> None:
    enforcer = lab.rps[1].enforcer
    assert enforcer
    before = held(lab, "rp2")
    enforcer.stop()
    enforcer.start()
    wait_until(lambda: held(lab, "rp2")["instance"] != before["instance"], "its probes come")
    assert held(lab, "rp2")["last"] < before["last"]
    wait_until(lambda: "0" not in held(lab, "rp2")["window"], "none is missing")
    wait_until(lambda: not problems(lab), "all is well")


def test_nginx_that_stops_is_told_of_by_its_enforcer(lab: Lab) -> None:
    rp = lab.rps[0]
    rp.nginx.stop()
    try:
        wait_until(lambda: bool(problems(lab)), "status tells")
        assert "rp1: nginx does not answer" in problems(lab)[0]
        assert len(problems(lab)) == 1, "what nginx did not answer is no loss of the log"
    finally:
        rp.nginx.start()
        rp.nginx.await_ready()
    wait_until(lambda: not problems(lab), "status is content again")
    assert rp.enforcer
    assert "nginx answers to probes again" in rp.enforcer.log.read_text()


def test_a_cut_log_path_is_an_alarm_within_seconds_and_its_healing_is_told(lab: Lab) -> None:
    with dropping(lab.rps[0]):
        wait_until(lambda: bool(problems(lab)), "status tells")
        [problem] = problems(lab)
        assert "rp1: no line of its nginx has come to rx1 for" in problem, "rx2 is another path, rp2 another RP"
        wait_until(lambda: "rp1: no line of its nginx has come to rx1" in receiver_log(lab), "the log tells")
    wait_until(lambda: not problems(lab), "status is content again")
    wait_until(lambda: "come again" in receiver_log(lab).partition("no line of")[2], "the log tells that, too")
    assert receiver_log(lab).count("rp1: no line of its nginx") == 1, "once, by one of two workers"
    assert "no line of" not in (lab.directory / "second" / "receiver.log").read_text(), "the other receiver is content"
    assert held(lab, "rp1")["window"].count("0") > 0


def test_killed_workers_and_reloads_of_the_receiver_lose_no_path(lab: Lab) -> None:
    assert lab.receiver
    since = held(lab, "rp2")["last"]
    before = lab.receiver.workers()
    lab.receiver.signal(signal.SIGHUP)
    wait_until(partial(replaced, lab, before), "a reload is done")
    wait_until(has_passed(lab, "rp2", 5), "probes go on")
    wait_until(lambda: "0" not in window_since(lab, "rp2", since), "who ends in order tells first what it has seen")
    for victim in lab.receiver.workers():
        os.kill(victim, signal.SIGKILL)
        wait_until(partial(replaced, lab, [victim]), "the killed worker is replaced")
        wait_until(has_passed(lab, "rp2", 5), "probes go on")
    wait_until(lambda: not problems(lab), "no alarm")
    # What a killed worker had seen and not told, that of a second, is missing.
    assert window_since(lab, "rp2", since).count("0") <= 2 * 10


def replaced(lab: Lab, before: Sequence[int]) -> bool:
    assert lab.receiver
    now = set(lab.receiver.workers())
    return len(now) == 2 and not now & set(before)


def window_since(lab: Lab, rp: str, last: int) -> str:
    """The part of the window that is later than that number. For a second one worker's probes may be in it without the
    other's between them: each tells of its own.
    """
    row = held(lab, rp)
    window: str = row["window"][-min(row["last"] - last, 60) :]
    return window


def test_an_outage_of_redis_loses_no_probe_and_raises_no_alarm(lab: Lab) -> None:
    assert lab.receiver
    before = held(lab, "rp2")["last"]
    alarms = receiver_log(lab).count("nginx")
    lab.redis.stop()
    wait_until(lambda: lab.receiver is not None and lab.receiver.status("/readyz") == 503, "Redis is missed")
    lab.redis.start()
    lab.redis.await_ready()
    wait_until(lambda: held(lab, "rp2")["last"] > before + 5, "probes go on")
    wait_until(lambda: "0" not in window_since(lab, "rp2", before), "no probe is missing")
    wait_until(lambda: not problems(lab), "all is well")
    assert receiver_log(lab).count("nginx") == alarms


def test_a_receiver_that_was_away_is_not_alarmed_by_what_it_missed(lab: Lab) -> None:
    assert lab.receiver
    alarms = receiver_log(lab).count("no line of its nginx")
    lab.receiver.stop()
    sent = number(lab.redis, "rp1", "probes_sent")
    wait_until(lambda: number(lab.redis, "rp1", "probes_sent") >= sent + 51, "a cut's worth of probes is lost")
    lab.receiver.start()
    lab.receiver.await_ready(lab.receiver.is_ready)
    wait_until(lambda: held(lab, "rp1")["last"] > sent + 50, "probes come again")
    assert held(lab, "rp1")["window"].count("0") >= 25, "the numbers tell what was lost"
    wait_until(lambda: not problems(lab), "all is well again")
    assert receiver_log(lab).count("no line of its nginx") == alarms


def test_probes_that_cannot_be_told_of_keep_the_receiver_ready(lab: Lab) -> None:
    assert lab.receiver
    before = receiver_log(lab)
    with lab.redis.client() as client:
        client.set("{pinban}:probes", "no hash")
        wait_until(lambda: "ERROR   pinban.receiver: probes: " in receiver_log(lab), "the log tells")
        for _ in range(20):
            assert lab.receiver.status("/readyz") == 200
        client.delete("{pinban}:probes")
    wait_until(lambda: bool(held(lab, "rp1")) and bool(held(lab, "rp2")), "probes are told of again")
    errors = [line for line in receiver_log(lab).removeprefix(before).splitlines() if "ERROR" in line]
    assert all("probes: " in line for line in errors), "nothing else is wrong"
    assert len(errors) <= len(lab.receiver.workers()), "each worker says it once"


def test_forged_probes_of_a_trusted_sender_are_bounded_and_change_nothing_else(lab: Lab) -> None:
    before = outcomes(lab)
    with Sender(lab.rps[0].host.namespace) as sender:
        sender.pour((forged(n) for n in range(5_000)), per_ms=2)
    wait_until(lambda: outcomes(lab)["malformed"] - before["malformed"] == 2_500, "all are read")
    wait_until(has_passed(lab, "rp1", 10), "the real ones go on")
    with lab.redis.client() as client:
        assert client.hlen("{pinban}:probes") <= 1_024
    report = status(lab)
    assert {row["rp"] for row in report["log"]} == {"rp1", "rp2"}, "names that no daemon has are not shown"
    assert report["problems"] == []
    now = outcomes(lab)
    assert now["received"] == now["malformed"] + now["probe"]
    assert now["failures"] == 0


def outcomes(lab: Lab) -> dict[str, int]:
    return {name: int(value) for name, value in node(lab.redis, "rx1").items() if value.isdigit()}


def forged(n: int) -> bytes:
    """Of a name that there is not; every other one has no number."""
    alias = f"forged{n}/0123abcd/{n}/0" if n % 2 else f"forged{n}/0123abcd/x"
    fields = {"v": 1, "id": str(n), "ip": "127.0.0.1", "m": "other", "k": "probe", "a": alias, "s": "204", "us": ""}
    return b"<190>Nov 22 14:12:18 pinban: " + json.dumps(fields).encode()
