"""The child of the iptables backend that stays: nothing depends on its life."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from enforcer.firewall.iptables.backend import IptablesFirewall
from enforcer.reconcile import Plan
from shared.addresses import Network
from tests.netfilter.conftest import children, descriptors, run, until


@pytest.fixture
def firewall(rp: str) -> Iterator[IptablesFirewall]:
    firewall = IptablesFirewall()
    firewall.install()
    yield firewall
    firewall.close()


def ban(firewall: IptablesFirewall, number: int) -> Network:
    network = Network(f"10.0.{number >> 8}.{number & 255}")
    firewall.apply(Plan({network: 300_000}, frozenset()))
    return network


def in_kernel(network: str) -> bool:
    return f"add pinban4 {network} timeout" in run("ipset", "save", "pinban4")


def test_many_changes_leave_no_process_and_no_descriptor_behind(firewall: IptablesFirewall) -> None:
    before = children()
    ban(firewall, 0)
    open_files = descriptors()
    for number in range(200):
        ban(firewall, number)
    assert descriptors() == open_files
    assert len(children()) == len(before) + 1
    firewall.close()
    assert children() == before
    assert descriptors() == open_files - 2


@pytest.mark.row(20)
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_child_that_is_killed_or_frozen_costs_no_ban(firewall: IptablesFirewall, blow: signal.Signals) -> None:
    before = children()
    ban(firewall, 0)
    (child,) = children().keys() - before.keys()
    os.kill(child, blow)
    assert until(lambda: children()[child] in "ZT")
    network = ban(firewall, 1)
    assert in_kernel(network)
    assert child not in children()
    assert in_kernel(ban(firewall, 2))
    assert "Z" not in children().values()


def test_an_error_before_the_answer_is_not_taken_for_success(rp: str) -> None:
    """In a full set an add is refused, while the test after it answers "in set" because of the wider network."""
    small = IptablesFirewall(prefix="small", maxelem=1, maxelem_limit=1)
    small.install()
    small.apply(Plan({Network("10.0.0.0/24"): 300_000}, frozenset()))
    unfit = 0
    for number in range(256):
        unfit = small.apply(Plan({Network(f"10.0.0.{number}"): 300_000}, frozenset()))
        assert (f"add small4 10.0.0.{number} " in run("ipset", "save", "small4")) is not bool(unfit)
        if unfit:
            break
    assert unfit == 1
    small.close()
