"""The traffic of a site: guessers, bystanders, noise, and an operator who bans and unbans."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import suppress

from tests.chaos.site import Site
from tests.lab.datagrams import Sender, failure
from tests.lab.lab import ReverseProxy
from tests.lab.views import operate

#: Between two datagrams of an RP, s, on average.
PAUSE_S = 0.008

#: Addresses that guess, that only join, that must never be banned although they guess.
GUESSERS = [f"198.18.{n // 250}.{n % 250 + 1}" for n in range(600)]
BYSTANDERS = [f"198.19.0.{n + 1}" for n in range(100)]
FRIENDS = [*(f"192.0.2.{n + 1}" for n in range(20)), *(f"198.51.99.{n + 1}" for n in range(20))]

#: Datagrams of a flood; more than the receiver's socket holds at once.
FLOOD = 8_000


def joined(address: str, id_: str) -> bytes:
    """The line of a right PIN."""
    fields = {"v": 1, "id": id_, "t": "1795356738.348", "ip": address, "m": "POST", "k": "conference"}
    fields |= {"a": "meet.alice", "s": "200", "us": "200", "l": "2410", "p": "1"}
    return b"<190>Nov 22 14:12:18 pinban: " + json.dumps(fields, separators=(",", ":")).encode()


def lines(dice: random.Random, name: str) -> Iterator[bytes]:
    """Without end; each has an id of its own, or none."""
    number = 0
    while True:
        number += 1
        id_ = f"{name}-{number}"
        match dice.randrange(20):
            case 0:
                yield dice.randbytes(dice.randrange(200))
            case 1 | 2:
                yield failure(dice.choice(FRIENDS), id_)
            case 3 | 4 | 5:
                yield joined(dice.choice(BYSTANDERS), id_)
            case 6:
                yield (
                    failure(dice.choice(BYSTANDERS), id_)
                    .replace(b'"l":"45"', b'"l":"77"')
                    .replace(b'"p":"1"', b'"p":"n"')
                )
            case _:
                yield failure(dice.choice(GUESSERS), id_)


def flood(site: Site, rp: ReverseProxy) -> None:
    """A burst from one RP, from addresses that fail once each."""
    with Sender(rp.host.namespace, site.entrance(rp)) as sender, suppress(OSError):
        sender.pour((failure(f"100.64.{n // 250}.{n % 250 + 1}", f"flood-{n}") for n in range(FLOOD)), per_ms=40)


class Traffic:
    """All of it, from start to stop."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._ended = threading.Event()
        self._running = [
            rp.host.namespace.start(lambda rp=rp: self._send(rp, random.Random(f"{seed} {rp.host.name}")))  # type: ignore[misc]
            for rp in site.rps
        ]
        self._running.append(site.core.namespace.start(lambda: self._operate(random.Random(f"{seed} operator"))))

    def stop(self) -> None:
        """Return when all senders and the operator have stopped."""
        self._ended.set()
        for each in self._running:
            each.result()

    def _send(self, rp: ReverseProxy, dice: random.Random) -> None:
        with Sender(rp.host.namespace, self._site.entrance(rp)) as sender:
            for line in lines(dice, rp.host.name):
                with suppress(OSError):  # partitioned: the firewall refuses what it drops on its way out
                    sender.send(line)
                if self._ended.wait(dice.expovariate(1 / PAUSE_S)):
                    return

    def _operate(self, dice: random.Random) -> None:
        """The commands may fail while Redis is away, as they would for a person."""
        while not self._ended.wait(dice.uniform(0.5, 3.0)):
            address = dice.choice(GUESSERS)
            match dice.randrange(3):
                case 0:
                    operate(self._site, "unban", address)
                case 1:
                    operate(self._site, "ban", address, "--for", f"{dice.randrange(5, 90)}s")
                case _:
                    operate(
                        self._site, "ban", f"2001:db9:{dice.randrange(99)}::1", "--for", f"{dice.randrange(5, 90)}s"
                    )
