"""What the receiver must understand of a request, by the node's record alone. Pure; it knows the classes as words.

Some truths no log line of the format can show. For these the right class is:

- Of several pin headers the node takes the last. nginx logs the first, or since 1.23 all of them, joined, which looks
  like a PIN. A PIN before a decoy is a PIN: its 403 counts, although the node only asked. A right PIN after a decoy is
  not seen as a join before 1.23. A wrong PIN after a decoy shows in the size of the answer, unless the guesser left
  before the answer, the node compressed it, or nginx answered in its place. `proxy_set_header pin $http_pin` prevents
  all of this.
- A 499 (only without proxy_ignore_client_abort) has no verdict: it counts when a node was asked and the first pin
  header was a PIN.
- A right PIN that is refused shows in the size of the answer: not when nobody waited for it, when nginx answered in the
  node's place, or when a short answer was compressed. Then it counts.
- A room's path below another path, with backslashes or a line feed, may be a room's to some nodes: what they answer may
  count.
  A rewrite that cuts a target asks the node for something else. Where two slashes stay two, nginx goes back over an
  empty element for each "..", and a node over one that is not empty: the room may get another name.
- A target that nginx cannot clean and that is too long for a datagram is not sent, and of one with a line feed nobody
  knows where a rewrite cut it: a refusal of a PIN counts whatever was asked for, and nothing else does.
- In the text formats the size of an answer tells a refusal from a prompt. An answer to a client that is gone, or that
  first got "100 Continue", has another size. No text tells whether credentials were sent, which site asked, or whether
  a short answer was compressed.
- The appliance's format hides the end of some paths, and a rewrite cuts some at a line feed: then a refusal's size is
  what a text format has left.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tests.ground_truth.fronts import Front

#: What the node did, in the receiver's word for it.
_CLASSES = {
    "wrong": "wrong_pin",
    "prompt": "pin_prompt",
    "redirected": "refused_otherwise",
    "full": "refused_otherwise",
    "joined": "joined",
    "unknown": "unknown_alias",
    "registration": "registration",
    "other": "other",
}

#: The rule that counts a class.
RULES = {"wrong_pin": "pin", "pin_prompt": "prompt", "unknown_alias": "scan", "registration": "registration"}

HUNG_UP = "499"

#: What nginx writes for a server that did not answer.
NO_ANSWER = "-"

_LOOKS_ASKED = re.compile(r"(?s)/api/client/v[0-9]+/(?:conferences|registrations)/.+/request_token\Z", re.IGNORECASE)


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
    login: bool  #: credentials came along
    sites: tuple[str, ...]  #: every Sec-Fetch-Site: from where a page asked, as a browser said
    origins: tuple[str, ...]  #: every Origin; none is that of the site itself
    compressed: bool  #: the answer

    @classmethod
    def of(cls, line: dict[str, Any]) -> Record:
        lists = {name: tuple(line[name]) for name in ("pins", "sites", "origins")}
        return cls(**line | lists | {"alias": line["alias"].encode("latin-1")})

    def shows_a_pin(self, *, joins: bool) -> bool:
        """Whether the pin header that nginx logs is one; `joins` tells whether it logs all of them."""
        return (joins and len(self.pins) > 1) or (bool(self.pins) and self.pins[0] not in ("", "none"))

    @property
    def name(self) -> str | None:
        """The alias as it is counted: 128 bytes at most, lower case; None when no request_token was reached."""
        return self.alias[:128].decode("utf-8", "replace").strip().lower() if self.alias else None

    @property
    def path(self) -> str:
        """Of the target, decoded."""
        return unquote(re.split("[?#]", self.target)[0], "latin-1")

    @property
    def asks_below(self) -> bool:
        """Whether the target is a room's below a path that the node does not have, with backslashes or a line feed."""
        path = posixpath.normpath(self.path.replace("\\", "/"))
        return not self.alias and bool("\n" in path or _LOOKS_ASKED.search(path))

    def goes_back_over(self, front: Front) -> bool:
        """Whether dot segments mean something else where two slashes stay two."""
        return front.unmerged and "//" in self.path and "/.." in self.path


@dataclass(frozen=True, slots=True)
class Said:
    """What nginx wrote about an answer."""

    status: str
    upstream: str  #: the servers' statuses, a list
    length: str  #: of their answers, a list
    untold: bool = False  #: the target was too long for the line
    cut: bool = False  #: there is a line feed in the target, and nginx could not tell what it asks for

    @property
    def unread(self) -> bool:
        """Whether nginx did not read the answer of the node that was asked first, or last."""
        return self.length.split(" : ")[0].split(", ")[-1] in ("0", NO_ANSWER)


def by_pinban(record: Record | None, said: Said, front: Front, *, joins: bool) -> set[str]:
    """The classes that its pinban line may have; `other` may also be no line at all."""
    if record is None:
        return _unrecorded(said, front)
    shows_a_pin = record.shows_a_pin(joins=joins)
    told = _told(record, said, front, shows_a_pin=shows_a_pin)
    if said.status == HUNG_UP or not (said.untold or said.cut):
        return told
    refused = record.status == 403 and record.outcome != "registration"
    if (refused and shows_a_pin) or told == {"wrong_pin"}:
        untold = {"wrong_pin"}
    else:  # a decoy may hide a wrong PIN
        untold = {"other", "wrong_pin"} if record.outcome == "wrong" else {"other"}
    return untold if said.untold else told | untold


def _told(record: Record, said: Said, front: Front, *, shows_a_pin: bool) -> set[str]:
    """The same where the line tells what was asked for."""
    led_there = record.asks_below or record.goes_back_over(front) or front.rewritten
    may_be_a_room = record.outcome == "other" and led_there
    if said.status == HUNG_UP and may_be_a_room and shows_a_pin:
        return {"other", "wrong_pin"}
    if said.status == HUNG_UP:
        guessed = record.outcome not in ("registration", "other") and shows_a_pin
        return {"wrong_pin"} if guessed else {"other"}
    match record.outcome, shows_a_pin:
        case "prompt", True:
            return {"wrong_pin"}
        case "wrong", False if said.unread or record.compressed:
            return {"pin_prompt", "wrong_pin"}
        case (("redirected" | "full"), False):
            return {"pin_prompt"}
        case (("redirected" | "full"), True) if said.unread or (record.outcome == "full" and record.compressed):
            return {"wrong_pin", "refused_otherwise"}
        case "joined", False:
            return {"other"}
        case "registration", _ if not record.login:
            return {"other"}
        case "other", _ if may_be_a_room:
            return {"other", "unknown_alias"}
    return {_CLASSES[record.outcome]}


def by_text(record: Record | None, said: Said, front: Front, *, other_size: bool, hidden: bool) -> set[str]:
    """The classes that its line in a text format may have; `hidden` tells whether the end of its path is."""
    if record is None:
        return _unrecorded(said, front)
    if said.status == HUNG_UP:
        return {"other"}
    told = {_CLASSES[record.outcome]}
    unknown_size = other_size or front.own_pages or record.compressed
    if (unknown_size and record.outcome in ("prompt", "redirected")) or record.outcome == "full":
        told |= {"pin_prompt", "wrong_pin"}
    if record.outcome == "other" and front.rewritten:
        told |= {"unknown_alias"}
    if hidden and (unknown_size or record.outcome != "wrong"):
        told |= {"other"}
    return told


def counted(record: Record | None, meaning: str, *, text: bool) -> set[str | None]:
    """The rules that may count it: none counts what a page may have made a browser do."""
    rule = RULES.get(meaning)
    if record is None:
        return {rule}
    if meaning == "registration":
        return {rule if record.login and not text else None}
    if meaning == "unknown_alias" and not text:
        if len(record.sites) > 1:
            return {None, rule}  # nginx sees the first, or all as one
        if "cross-site" in record.sites or (record.origins and not record.sites):
            return {None}
    return {rule}


def _unrecorded(said: Said, front: Front) -> set[str]:
    """A request that no node has seen is no guess, and nginx's own answer is no node's."""
    if front.own_pages and said.upstream == "200":  # another server has refused it for nginx
        return {"other", "joined"}
    return {"other"}
