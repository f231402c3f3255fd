"""What a line means: one class for each, and the class alone decides which rule counts it. Pure."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from receiver.lines import formats as lines
from receiver.lines import syslog
from receiver.lines.target import LONGEST_ALIAS
from shared.addresses import IPV6_PREFIX, Network, counted_network
from shared.errors import AddressError
from shared.probe import Probe, parse_probe
from shared.settings import Receiver


class Class(StrEnum):
    """The meaning of a line."""

    WRONG_PIN = "wrong_pin"  #: a PIN was tried and refused
    PIN_PROMPT = "pin_prompt"  #: the node asked for a PIN: every legitimate join makes one
    REFUSED_OTHERWISE = "refused_otherwise"  #: a PIN was sent and the node refused, but not because of the PIN
    UNKNOWN_ALIAS = "unknown_alias"  #: no such conference
    REGISTRATION = "registration"  #: a device's credentials were refused
    JOINED = "joined"  #: a PIN was tried and accepted
    OTHER = "other"  #: any other request
    PROBE = "probe"  #: an enforcer's probe, not a request of a client
    MALFORMED = "malformed"  #: not a line that pinban reads


#: The built-in rule that counts a class; what is not here is never counted.
RULES = {
    Class.WRONG_PIN: "pin",
    Class.PIN_PROMPT: "prompt",
    Class.UNKNOWN_ALIAS: "scan",
    Class.REGISTRATION: "registration",
}


class Line(msgspec.Struct, frozen=True, gc=False):
    """What a log line says."""

    meaning: Class
    network: Network | None = None  #: the network that would be counted
    alias: str | None = None  #: decoded, lower case, at most LONGEST_ALIAS characters
    id: str = ""  #: nginx's request id, or "": the same id is the same failure
    took_ms: int = -1  #: from the request's first byte until the line; -1: the line does not say
    unknown_size: int | None = None  #: the size of a refusal with a PIN of which no setting says what it means
    probe: Probe | None = None
    counted: bool = True  #: whether the rule of its class may count it


_MALFORMED = Line(Class.MALFORMED)


class Classifier:
    """Tells what lines mean, by the body sizes of one deployment."""

    def __init__(self, settings: Receiver, ipv6_prefix: int = IPV6_PREFIX, ipv4_prefix: int = 32) -> None:
        self._wrong_pin_bytes = frozenset(settings.wrong_pin_bytes)
        self._prompt_bytes = frozenset(settings.prompt_bytes)
        self._otherwise_bytes = frozenset(settings.refused_otherwise_bytes)
        self._otherwise_above = settings.refused_otherwise_above
        # None: not told. 0: nginx read nothing of a body that an error page replaces, or of one that did not come.
        self._known_bytes = self._wrong_pin_bytes | self._prompt_bytes | self._otherwise_bytes | {None, 0}
        self._prefixes = ipv6_prefix, ipv4_prefix

    def classify(self, datagram: bytes) -> Line:
        """The meaning of a syslog message or of a line of a file. Raises nothing."""
        fields = lines.parse(syslog.message(datagram))
        if fields is None:
            return _MALFORMED
        if fields.kind == "probe":
            # nginx/pinban.conf takes probes from loopback clients alone; it may have been edited, so look again.
            probe = parse_probe(fields.alias or "") if fields.address.startswith("127.") else None
            return Line(Class.PROBE, probe=probe) if probe else _MALFORMED
        try:
            network = counted_network(fields.address, *self._prefixes)
        except AddressError:
            return _MALFORMED
        alias = fields.alias.strip().lower()[:LONGEST_ALIAS] if fields.alias is not None else None
        meaning = self._meaning(fields)
        unknown = None
        if fields.length not in self._known_bytes and meaning is Class.WRONG_PIN and fields.kind == "conference":
            unknown = fields.length
        return Line(meaning, network, alias, fields.id, fields.took_ms, unknown, None, _is_counted(fields))

    def _meaning(self, request: lines.Fields) -> Class:
        if not request.post or request.kind is None or not request.asked:
            return Class.OTHER
        if request.kind == "registration":
            refused = request.status in (401, 403) and request.credentials is not False
            return Class.REGISTRATION if refused else Class.OTHER
        if request.status == lines.HUNG_UP and request.pin == "1":  # so that the 403 would not be logged
            return Class.WRONG_PIN
        if request.kind == "unclear":  # nobody innocent makes such a request with a PIN
            guessed = request.pin == "1" or request.length in self._wrong_pin_bytes
            return Class.WRONG_PIN if guessed and request.status == 403 else Class.OTHER
        match request.status:
            case 403:
                return Class.WRONG_PIN if request.length in self._wrong_pin_bytes else self._refusal(request)
            case 404:
                return Class.UNKNOWN_ALIAS
            case 200 if request.pin in ("1", None):
                return Class.JOINED
        return Class.OTHER

    def _refusal(self, request: lines.Fields) -> Class:
        """The meaning of a conference's 403 that has not the size of a refused PIN."""
        if request.pin in ("0", "n") or (request.pin is None and request.length in self._prompt_bytes):
            return Class.PIN_PROMPT
        # With a PIN, or without a PIN flag, a 403 counts unless its size says otherwise: as with fail2ban.
        return Class.REFUSED_OTHERWISE if self._says_otherwise(request) else Class.WRONG_PIN

    def _says_otherwise(self, request: lines.Fields) -> bool:
        """Whether a body has a size that no refusal of a PIN has.

        A client chooses whether the node compresses, so a small size says nothing where that may have happened.
        """
        if request.length is None:
            return False
        return request.length > self._otherwise_above or (request.plain and request.length in self._otherwise_bytes)


def _is_counted(request: lines.Fields) -> bool:
    """Nobody is counted for what a page of another site may have made his browser do."""
    if request.kind == "registration":
        return request.credentials is True
    return not (request.cross_site and request.status == 404)
