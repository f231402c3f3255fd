"""What the receiver must understand of a request, by the node's record alone. Pure.

Some truths no log line of the format can show. For these the right class is:

- Of several pin headers the node takes the last. nginx logs the first, or since 1.23 all of them, joined, which looks
  like a PIN. A PIN before a decoy is a PIN: its 403 counts, although the node only asked. A right PIN after a decoy is
  not seen as a join before 1.23. A wrong PIN after a decoy shows in the size of the answer, unless the guesser left
  before the answer. `proxy_set_header pin $http_pin` prevents all of this.
- A 499 (only without proxy_ignore_client_abort) has no verdict: it counts when the first pin header was a PIN.
- A path below another one, /x/api/client/v2/conferences/y/request_token, may be shortened by a rewrite on its way, and
  a node may take a backslash for a slash. Where this node says 404 to it, it looks like an unknown alias.
- A registration counts by the credentials that were sent; the pexapp format does not tell.
- In the pexapp format the size of an answer tells a refusal from a prompt. An answer to a client that is gone, or that
  first got "100 Continue", has another size. It is also not certain that the fifth field is the upstream's status, so a
  403 of nginx itself counts as the others do.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from receiver.lines.classify import Class

_CLASSES = {
    "wrong": Class.WRONG_PIN,
    "prompt": Class.PIN_PROMPT,
    "joined": Class.JOINED,
    "unknown": Class.UNKNOWN_ALIAS,
    "registration": Class.REGISTRATION,
    "other": Class.OTHER,
}

HUNG_UP = "499"

_LOOKS_ASKED = re.compile(r"(?s).*/api/client/v[0-9]+/(?:conferences|registrations)/.+/request_token\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Record:
    """A request as the node saw it."""

    id: str
    marker: str
    method: str
    target: str
    alias: bytes  #: decoded; empty when no request_token was reached
    pins: tuple[str, ...]  #: every pin header, stripped
    outcome: str
    status: int

    @classmethod
    def of(cls, line: dict[str, Any]) -> Record:
        return cls(**line | {"alias": line["alias"].encode("latin-1"), "pins": tuple(line["pins"])})

    def shows_a_pin(self, *, joins: bool) -> bool:
        """Whether the pin header that nginx logs is one; `joins` tells whether it logs all of them."""
        return (joins and len(self.pins) > 1) or (bool(self.pins) and self.pins[0] not in ("", "none"))

    @property
    def name(self) -> str | None:
        """The alias as it is counted: 128 bytes at most, lower case; None when no request_token was reached."""
        return self.alias[:128].decode("utf-8", "replace").strip().lower() if self.alias else None

    @property
    def looks_asked(self) -> bool:
        """Whether another node, or one behind another proxy, would take the target for a request for a token."""
        path = unquote(re.split("[?#]", self.target)[0], "latin-1").replace("\\", "/")
        return not self.alias and bool(_LOOKS_ASKED.match(posixpath.normpath(path)))


def by_pinban(record: Record | None, status: str, length: str, *, joins: bool) -> set[Class]:
    """The classes that its pinban line may have; `other` may also be no line at all."""
    if record is None:
        return {Class.OTHER}
    shows_a_pin = record.shows_a_pin(joins=joins)
    if status == HUNG_UP:
        guessed = record.outcome in ("wrong", "prompt", "joined", "unknown") and shows_a_pin
        looks_guessed = record.looks_asked and shows_a_pin
        return {Class.WRONG_PIN} if guessed else {Class.OTHER, Class.WRONG_PIN} if looks_guessed else {Class.OTHER}
    match record.outcome, shows_a_pin:
        case "prompt", True:
            return {Class.WRONG_PIN}
        case "wrong", False if length == "0":
            return {Class.PIN_PROMPT}
        case "joined", False:
            return {Class.OTHER}
        case "other", _ if record.looks_asked:
            return {Class.OTHER, Class.UNKNOWN_ALIAS}
        case "registration", _ if record.status == 401:  # no credentials
            return {Class.OTHER}
    return {_CLASSES[record.outcome]}


def by_pexapp(record: Record | None, status: str, *, other_size: bool) -> set[Class]:
    """The classes that its pexapp line may have."""
    if record is None:
        return {Class.OTHER, Class.WRONG_PIN} if status == "403" else {Class.OTHER}
    if status == HUNG_UP:
        return {Class.OTHER}
    if other_size and record.outcome == "prompt":
        return {Class.PIN_PROMPT, Class.WRONG_PIN}
    return {_CLASSES[record.outcome]}
