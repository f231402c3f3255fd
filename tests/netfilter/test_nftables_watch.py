"""The watch calls at once for changes that other programs make to our table, and for no other changes."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from enforcer.firewall.nftables import watch as nftables_watch
from enforcer.firewall.nftables.backend import NftablesFirewall
from enforcer.firewall.nftables.watch import REST_S, NftWatch
from enforcer.reconcile import Plan
from shared.addresses import Network
from tests.lab.process import PATIENCE_S
from tests.netfilter.conftest import run, until


@pytest.fixture
def firewall(rp: str) -> Iterator[NftablesFirewall]:
    firewall = NftablesFirewall()
    firewall.install()
    yield firewall
    firewall.close()


def ban(firewall: NftablesFirewall, count: int = 1) -> None:
    networks = [Network(f"10.0.{i >> 8}.{i & 255}") for i in range(count)]
    firewall.apply(Plan(dict.fromkeys(networks, 300_000), frozenset()))


FOREIGN = {
    "ruleset flushed": "flush ruleset",
    "rule added": "insert rule inet pinban from_member accept",
    "member deleted": "delete element inet pinban v4_32 { 10.0.0.0 }",
    "member added": "add element inet pinban v4_32 { 192.0.2.1 }",
    "policy changed": "add chain inet pinban input { policy drop; }",
}


@pytest.mark.parametrize("change", FOREIGN)
def test_a_change_by_others_is_heard(firewall: NftablesFirewall, change: str) -> None:
    ban(firewall)
    watch = NftWatch(firewall, lambda: None)
    run("nft", FOREIGN[change])
    assert watch.touched_by_others()
    assert not watch.touched_by_others()
    watch.close()


def test_our_bans_and_the_tables_of_others_are_no_news(firewall: NftablesFirewall) -> None:
    watch = NftWatch(firewall, lambda: None)
    ban(firewall, 5_000)
    ban(firewall, 10)
    firewall.remember_ledger("0123456789abcdef")
    run(
        "nft", "add table inet theirs; add set inet theirs s { type ipv4_addr; }; add element inet theirs s { 1.2.3.4 }"
    )
    run("nft", "add table ip pinban; delete table ip pinban; flush table inet theirs")
    assert not watch.touched_by_others()
    run("nft", "flush", "ruleset")
    assert watch.touched_by_others()
    watch.close()


def test_when_more_is_said_than_fits_it_counts_as_touched(
    firewall: NftablesFirewall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nftables_watch, "BUFFER", 4_096)
    watch = NftWatch(firewall, lambda: None)
    ban(firewall, 5_000)
    assert watch.touched_by_others()
    watch.close()


def test_a_flood_of_changes_is_told_of_once_a_second_and_the_first_at_once(firewall: NftablesFirewall) -> None:
    told: list[float] = []
    watch = NftWatch(firewall, lambda: told.append(time.monotonic()))
    watch.start()
    began = time.monotonic()
    flood = "".join(f"add element inet pinban v4_32 {{ 192.0.2.{n} }}\n" for n in range(200))
    while time.monotonic() - began < 2.5 * REST_S:
        subprocess.run(["nft", "-f", "-"], input=flood + "flush set inet pinban v4_32\n", text=True, check=True)
    assert told[0] < time.monotonic(), "while it lasts"
    assert len(told) <= 1 + (time.monotonic() - began) / REST_S
    ended = time.monotonic()
    assert until(lambda: told[-1] > ended - 2 * REST_S)
    assert all(later - earlier >= REST_S for earlier, later in pairwise(told))
    end(watch)


def test_an_error_of_ours_is_said_and_does_not_end_the_watch(
    firewall: NftablesFirewall, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[float] = []

    def touched() -> None:
        told.append(time.monotonic())
        if len(told) == 1:
            raise RuntimeError("a bug")

    watch = NftWatch(firewall, touched)
    watch.start()
    run("nft", "flush", "ruleset")
    assert until(lambda: len(told) == 2), "what happened before it listened again is looked at"
    run("nft", "add table inet pinban")
    assert until(lambda: len(told) == 3)
    assert [record.exc_info is not None for record in caplog.records] == [True]
    assert "trying again" in caplog.text
    end(watch)


def test_a_socket_that_breaks_is_replaced(firewall: NftablesFirewall, caplog: pytest.LogCaptureFixture) -> None:
    told = threading.Event()
    watch = NftWatch(firewall, told.set)
    watch.start()
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), watch._socket.fileno())
    assert until(told.is_set)
    assert until(lambda: "trying again" in caplog.text)
    told.clear()
    run("nft", "flush", "ruleset")
    assert until(told.is_set)
    end(watch)


def test_while_no_socket_can_be_had_it_says_so_and_goes_on_trying(
    firewall: NftablesFirewall, caplog: pytest.LogCaptureFixture
) -> None:
    told = threading.Event()
    watch = NftWatch(firewall, told.set)
    watch.start()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), watch._socket.fileno())
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))  # standard input, output and error are open
        assert until(lambda: "raise the limit of open files" in caplog.text)
        assert not told.is_set()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert until(told.is_set)
    end(watch)


def end(watch: NftWatch) -> None:
    assert watch.is_alive()
    watch.stop()
    watch.join(PATIENCE_S)
    assert not watch.is_alive()
