"""Target: a datagram of a trusted sender, read as the receiver reads it. No socket, no Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from socket import AF_INET, inet_aton
from typing import cast

import msgspec

from receiver.failures import Failure, pack, unpack
from receiver.intake import Sorter
from receiver.lines.classify import Class
from receiver.lines.rulebook import Rulebook
from receiver.spool.slots import INTAKE, RECORD_BYTES, Slot
from shared.addresses import NetworkSet, parse_network
from shared.exempt.exemptions import Exemptions
from shared.settings.schema import Rule, Settings
from tests.fuzz.oracle import network_of, opinions
from tests.lab.process import ROOT

LINES = ROOT / "tests" / "corpus" / "lines.jsonl"

#: What the datagrams of the rule from the settings say before the address.
OWN = "Failed guess from "

IGNORED = ("127.0.0.0/8", "::1", "198.51.100.0/24")

#: struct sockaddr_in of 127.0.0.1 (ip(7)), and of somebody who is not in receiver.senders.
FRIEND, STRANGER = (
    AF_INET.to_bytes(2, "little") + b"\x15\x8a" + inet_aton(text) for text in ("127.0.0.1", "203.0.113.250")
)

DEFAULT = Settings(ignoreself=False, ignoreip=IGNORED)
WITH_OWN = msgspec.structs.replace(
    DEFAULT,
    rules={**DEFAULT.rules, "own": Rule(failregex=f"^{OWN}<HOST>$")},
    rooms=msgspec.structs.replace(DEFAULT.rooms, forgive_on_join=2),
)

_OWN = re.compile(OWN + r"\[?([0-9A-Fa-f:.]+)")


class OneDatagram:
    """A slot of the spool with a single datagram in its receive buffer."""

    def __init__(self, data: bytes | None, sender: bytes) -> None:
        self._data, self._sender = data, sender
        self.tally: dict[str, int] = {}
        self.failures: list[bytes] = []

    def datagrams(self) -> Iterator[tuple[str, bytes, bytes | None]]:
        yield "slot.0.0", self._sender, self._data

    def commit(self, tally: Mapping[str, int], *failures: Sequence[bytes]) -> None:
        self.tally.update(tally)
        self.failures.extend(record for some in failures for record in some)


class Target:
    """Two receivers, one with a rule from the settings and with forgiving; a planted fault may change the rulebooks."""

    WORDS: tuple[str, ...] = (
        '"POST ', '" 403 56 "', '"403"', "/api/client/v2/conferences/", "/request_token", " HTTP/1.1", "%2f", "/../",
        "<190>Nov 22 14:12:18 ", "pinban: ", "<14>1 - - - - - - ", '{"v":1,', '"ip":"203.0.113.66"', '"m":"POST"',
        '"k":"conference"', '"k":"registration"', '"s":"499"', '"us":"403"', '"us":"502, 200"', '"p":"1"', '"l":"45"',
        '"k":"unclear"', '"u":"', '"c":"1"', '"x":"1"', '"e":"0"', '"us":"403 : 200"', "[FILTERED]", '"l":"59"',
        '"n":"-"', "%0a",
        '"a":"', '","', "\\u0022", "\\x22", "::ffff:203.0.113.66", "2001:db8::1", " - - [", "]  ", "198.51.100.66", OWN,
    )  # fmt: skip

    def __init__(self, rulebook: type[Rulebook] = Rulebook) -> None:
        self._rulebook = rulebook(DEFAULT)
        self._sorter = Sorter(DEFAULT, self._rulebook, Exemptions(DEFAULT))
        self._with_own = Sorter(WITH_OWN, rulebook(WITH_OWN), Exemptions(WITH_OWN))
        self._ignored = NetworkSet(IGNORED)

    def seeds(self) -> Iterator[bytes]:
        for line in LINES.read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            yield bytes.fromhex(case["hex"]) if "hex" in case else case["line"].encode()
        yield b"<190>Nov 22 14:12:18 rp1 pinban: " + OWN.encode() + b"203.0.113.9"

    def check(self, data: bytes) -> None:
        """AssertionError when a promise is broken; any other error is a broken promise too."""
        outcome, failure = sorted_by(self._sorter, data)
        if self._rulebook.cannot_matter(data):
            assert self._rulebook.read(data).rule is None, "a line that counts was skipped"
        if failure is not None:
            self._check_failure(failure)
            assert failure.rule in DEFAULT.rules
            assert (failure.network, outcome) in counted(data), (failure, outcome)
        if len(data) % 4 == 0 or OWN.encode() in data:  # the same again is half of the time
            self._check_own(data)
        if len(data) % 16 == 0:
            assert sorted_by(self._sorter, data, STRANGER) == ("refused", None)

    def _check_own(self, data: bytes) -> None:
        outcome, failure = sorted_by(self._with_own, data)
        if failure is None:
            return
        self._check_failure(failure)
        if failure.rule == "own":
            said = _OWN.findall(data.decode("utf-8", "replace"))
            assert failure.network in {network_of(each) for each in said}
        else:
            assert (failure.network, outcome) in counted(data)

    def _check_failure(self, failure: Failure) -> None:
        assert str(parse_network(failure.network)) == failure.network, "not canonical"
        assert not self._ignored.overlaps(failure.network), "ignored, but counted"
        assert failure.id, "without an id a repeat cannot be recognised"
        assert " " not in failure.id
        words = f"{failure.id} {failure.evidence}".split(" ")
        assert len(words) == 3, words
        assert all(word.isprintable() for word in words)


def counted(data: bytes) -> set[tuple[str, str]]:
    """Whom the datagram may have counted, and as what."""
    return {(opinion.network, opinion.meaning) for opinion in opinions(data) if opinion.counted}


def sorted_by(sorter: Sorter, data: bytes | None, sender: bytes = FRIEND) -> tuple[str, Failure | None]:
    """The one outcome of a datagram, and the failure as the spool would give it back."""
    slot = OneDatagram(data, sender)
    made = sorter.sort(cast(Slot, slot))
    assert slot.tally.pop("received") == 1
    [(outcome, once)] = slot.tally.items()
    assert once == 1
    assert outcome in INTAKE
    assert made == len(slot.failures) <= 1
    if not made:
        return outcome, None
    assert len(slot.failures[0]) <= RECORD_BYTES - 2, "too long for the spool"
    failure = unpack(slot.failures[0])
    assert pack(failure) == slot.failures[0]
    assert outcome in {*Class} - {Class.MALFORMED}
    return outcome, failure
