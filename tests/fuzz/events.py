"""Target: bytes on the channel, alone and in sequence, read as the enforcer reads them. No Redis, no kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import msgpack

from enforcer.agent import Agent
from enforcer.firewall.dry_run import DryRunFirewall
from enforcer.snapshot import Snapshot
from shared.addresses import Network, NetworkSet, parse_network
from shared.errors import AddressError, DecodeError
from shared.events import LONGEST_EVENT, Allow, Ban, Event, Heartbeat, Hot, Stamp, Unban, decode, encode

#: Addresses that nothing may ban, and other addresses.
EXEMPT = NetworkSet(["198.51.100.0/24", "2001:db8:5::/48"])
NETWORKS = tuple(
    Network(text)
    for text in (
        "203.0.113.7", "203.0.113.8", "203.0.113.0/24", "2001:db8:1:2::/64", "198.51.100.7", "198.51.0.0/16",
        "2001:db8:5:5::/64", "0.0.0.0/0", "::/0", "127.0.0.1", "10.0.0.0/8", "2001:db8::/32",
    )
)  # fmt: skip

EPOCHS = ("e", "f", "")

#: Events of one input at most.
_MOST = 6


@functools.cache  # other tests try NetworkSet; here it would take most of the time
def exempt(network: Network) -> str:
    return "exempt" if EXEMPT.overlaps(network) or network.endswith("/0") else ""


class Target:
    """An agent for each input, with a firewall that remembers; a planted fault may replace either."""

    WORDS: tuple[str, ...] = (
        "ban/1",
        "unban/1",
        "heartbeat/1",
        "allow/1",
        "hot/1",
        "0.0.0.0/0",
        "::/0",
        "203.0.113.7",
        "2001:db8::/32",
    )

    def __init__(
        self,
        decoder: Callable[[bytes], Event] = decode,
        asked: Callable[[Network], str] = exempt,
    ) -> None:
        self._decode = decoder
        self._exempt = asked

    def seeds(self) -> Iterator[bytes]:
        for network in NETWORKS:
            yield encode(Ban(Stamp("0123456789abcdef", 7), network, 300_000, "pin"))
            yield encode(Unban(Stamp("0123456789abcdef", 7), network))
        stamp = Stamp("0123456789abcdef", 8)
        yield from (encode(event) for event in (Heartbeat(stamp, 1), Allow(stamp), Hot(stamp, "meet.alice", 60_000)))
        yield bytes(range(64))
        yield bytes((n * 37) % 256 for n in range(200))

    def check(self, data: bytes) -> None:
        self._check_alone(data)
        self._check_followed(data)

    def _check_alone(self, data: bytes) -> None:
        try:
            event = self._decode(data)
        except DecodeError:
            return
        again = encode(event)
        assert len(again) <= len(data) <= LONGEST_EVENT
        assert decode(again) == event
        assert event.stamp.epoch
        if isinstance(event, Ban | Unban):
            assert parse_network(event.network) == event.network
            assert event.network in data.decode("latin-1")

    def _check_followed(self, data: bytes) -> None:
        firewall = DryRunFirewall()
        agent = Agent(firewall, self._exempt)
        agent.arm()
        standing = {NETWORKS[0]: 600_000}
        agent.resync(Snapshot(Stamp("e", 1), standing.items()))
        named: set[str] = {*standing}
        told = [data]
        told += _told(data)
        batch: list[bytes] = []
        for number, each in enumerate(told):
            batch.append(each)
            named |= banned_by(each)
            if each[:1] and each[0] & 1 and number + 1 < len(told):
                continue
            if not agent.follow(batch):
                agent.resync(Snapshot(Stamp("e", number + 2), standing.items()))
            batch = []
            _check_held(firewall, named)
        agent.check()
        _check_held(firewall, named)


def _check_held(firewall: DryRunFirewall, named: set[str]) -> None:
    held = firewall.bans().keys()
    assert held <= named, f"nobody named {held - named}"
    assert not any(exempt(network) for network in held), held


def banned_by(data: bytes) -> set[str]:
    """The network that these bytes may ban, read without pinban's decoder."""
    try:
        fields = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError):
        return set()
    if not isinstance(fields, list) or len(fields) != 6 or fields[0] != "ban/1" or not isinstance(fields[3], str):
        return set()
    try:
        return {parse_network(fields[3])}
    except AddressError:
        return set()


def _told(data: bytes) -> Iterator[bytes]:
    """Up to _MOST events that the bytes choose: correct ones, ones with one wrong byte, or the rest of the bytes."""
    for n in range(0, min(len(data) - 3, 4 * _MOST), 4):
        verb, where, rev, bend = data[n : n + 4]
        stamp = Stamp(EPOCHS[(verb >> 4) % 4 % 3], 1 + rev % 16)
        network = NETWORKS[where % len(NETWORKS)]
        event: Event
        match verb % 8:
            case 0 | 1 | 2:
                event = Ban(stamp, network, 1 + bend * 4_000, "pin")
            case 3:
                event = Unban(stamp, network)
            case 4:
                event = Heartbeat(stamp, rev)
            case 5:
                event = Allow(stamp)
            case 6:
                event = Hot(stamp, "meet.alice", 1 + bend)
            case _:
                yield data[n:]
                continue
        told = bytearray(encode(event))
        if bend & 1:
            told[bend % len(told)] ^= where
        yield bytes(told)
