"""A change by another program to a running enforcer's table is noticed, repaired at once, logged and counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count

import pytest

from bench.bans import KEYS, NODE, Site, site
from enforcer.firewall.nftables.backend import NftablesFirewall
from shared.addresses import Network
from shared.errors import FirewallError
from shared.ledger.changes import NewBan
from tests.lab.daemons import set_constants
from tests.lab.process import wait_until

BANS = 3_000


@pytest.fixture(scope="module")
def place() -> Iterator[Site]:
    """Checks every 30 s are off: only the watch asks for a check."""
    with site({"enforcer": {"backend": "nftables"}}) as place:
        set_constants(place.enforcer, {"enforcer.maintenance._CHECK_EVERY_S": 3_600})
        place.fill(BANS)
        place.enforcer.start()
        place.await_report()
        wait_until(lambda: len(members(place)) == BANS, "the kernel holds the ledger")
        yield place


def members(place: Site) -> set[Network]:
    """What the sets hold; nothing while one is missing."""
    try:
        return place.namespace.call(lambda: set(NftablesFirewall().bans()))
    except FirewallError:
        return set()


def rules(place: Site) -> str:
    """The table, without members of sets and without counts."""
    lines = place.namespace.run(["nft", "-s", "-t", "list", "table", "inet", "pinban"], check=False).stdout
    return "\n".join(sorted(lines.splitlines()))


def facts(place: Site) -> dict[str, str]:
    """The enforcer's own hash."""
    with place.server.client() as client:
        return {name.decode(): value.decode() for name, value in client.hgetall(KEYS.node(NODE)).items()}


def repairs(place: Site) -> int:
    return int(facts(place)["repairs"])


DAMAGES = {
    "ruleset flushed": ("nft flush ruleset", "put back table pinban"),
    "a rule that accepts": ("nft insert rule inet pinban from_member accept", "put back rules of chain from_member"),
    "chain flushed": ("nft flush chain inet pinban input", "put back rules of chain input"),
    "table asleep": ("nft 'add table inet pinban { flags dormant; }'", "put back table pinban (was dormant)"),
    "an accept in front as soon as the rules are back": (
        "nft flush ruleset; until nft list chain inet pinban from_member 2>/dev/null | grep -q refuse; do :; done;"
        " nft insert rule inet pinban from_member accept",
        "put back rules of chain from_member",
    ),
    "sets flushed": ("nft flush set inet pinban v4_32", "put back 2700 bans"),
    "a member deleted": ("nft delete element inet pinban v4_32 { %s }", "put back 1 bans, removed 0"),
    "a member exchanged": (
        "nft 'delete element inet pinban v4_32 { %s }; add element inet pinban v4_32 { 192.0.2.1 timeout 1h }'",
        "put back 1 bans, removed 1",
    ),
}


@pytest.mark.row(19)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_is_mended_at_once_logged_and_counted(place: Site, damage: str) -> None:
    command, said = DAMAGES[damage]
    standing, banned, before, logged = rules(place), members(place), repairs(place), len(place.log())
    assert len(banned) == BANS
    victim = next(network for network in sorted(banned) if ":" not in network)
    place.namespace.run(["sh", "-ec", command.replace("%s", victim)])
    wait_until(lambda: (members(place), rules(place)) == (banned, standing), f"all stands after {damage}")
    wait_until(lambda: repairs(place) > before, f"{damage} is counted")
    assert said in place.log()[logged:]
    assert "WARNING" in place.log()[logged:]


def test_bans_that_come_and_end_while_others_touch_the_table_are_no_damage(place: Site) -> None:
    """Every touch brings a comparison of the whole firewall, with members coming and going while it is read."""
    before, logged, numbers = repairs(place), len(place.log()), count()
    for _ in range(50):
        for _ in range(20):
            number = next(numbers)
            address = Network(f"172.16.{number >> 8}.{number & 255}")
            place.ledger.ban(NewBan(address, 1_500, "pin", "[]", "test"))
        place.namespace.run(["nft", "add counter inet pinban theirs; delete counter inet pinban theirs"])
        time.sleep(0.1)  # so that there is time for the checks that are to find nothing
    wait_until(lambda: len(members(place)) == BANS, "the short bans are over")
    assert repairs(place) == before, place.log()[logged:]


def test_the_node_says_which_backend_and_why(place: Site) -> None:
    told = facts(place)
    assert (told["backend"], told["backend_why"]) == ("nftables", "enforcer.backend says so")
    assert "backend nftables: enforcer.backend says so" in place.log()
