"""The thread that keeps house: how often it has the firewall compared with the ledger."""

from __future__ import annotations

import time
from itertools import pairwise

import msgspec
import pytest

from enforcer.agent import Agent
from enforcer.firewall.dry_run import DryRunFirewall
from enforcer.follower import Follower
from enforcer.maintenance import Maintenance
from enforcer.probes import Probes
from enforcer.witness import Witness
from shared.settings.schema import Redis, Settings
from tests.lab.process import PATIENCE_S, wait_until

#: After a check, no other may come for this many times as long as it took.
REST = 5


class Disturbed(Agent):
    """Another program edits its firewall all the time, and each check takes 0.1 s."""

    def __init__(self) -> None:
        super().__init__(DryRunFirewall(), lambda _: "")
        self.checks: list[tuple[float, float]] = []  #: when each began and ended, s
        self.check_wanted.set()

    def check(self) -> None:
        began = time.monotonic()
        super().check()
        time.sleep(0.1)
        self.check_wanted.set()
        self.checks.append((began, time.monotonic()))


def test_slow_checks_are_followed_by_a_rest_that_grows_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that edits the firewall all the time does not keep the enforcer busy. There is no Redis."""
    monkeypatch.setattr("enforcer.maintenance._EVERY_S", 0.01)
    settings = msgspec.structs.replace(Settings(), redis=Redis(url="unix:///nowhere/redis.sock"))
    agent = Disturbed()
    maintenance = Maintenance(
        settings, agent, Follower(settings, agent), "dry-run", "", Probes(settings), Witness(settings)
    )
    maintenance.start()
    wait_until(lambda: len(agent.checks) >= 5, "checks go on")
    maintenance.stop()
    maintenance.join(PATIENCE_S)
    for (began, ended), (later, _) in pairwise(agent.checks):
        assert later - ended >= REST * (ended - began)
