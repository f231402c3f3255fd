"""Which rule counts a line: the built-in rule of its class, or the first of the site's own rules that matches. Pure."""

from __future__ import annotations

import msgspec

from receiver.failregex import FailregexError, Filter, Found, Pattern, compile_filter, patterns_of, without_date
from receiver.lines import syslog
from receiver.lines.classify import RULES, Class, Classifier, Line
from shared.addresses import counted_network
from shared.errors import AddressError, SettingsError
from shared.settings import BUILT_IN, Settings


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What a line means, and which rule counts it."""

    line: Line
    rule: str | None  #: None: no rule


class Rulebook:
    """The rules of one deployment, their patterns compiled. SettingsError names a pattern that cannot be compiled."""

    def __init__(self, settings: Settings) -> None:
        self._classifier = Classifier(settings.receiver, settings.ipv6_prefix, settings.ipv4_prefix)
        self._prefixes = settings.ipv6_prefix, settings.ipv4_prefix
        self._built_in: dict[Class, str] = {}
        self._ignore: dict[str, list[Pattern]] = {}
        self._own: list[tuple[str, Filter]] = []
        for name, rule in settings.rules.items():
            if not rule.enabled:
                continue
            try:
                if name not in BUILT_IN:
                    ignored = patterns_of(rule.ignoreregex)
                    self._own.append(
                        (name, compile_filter(patterns_of(rule.failregex), ignored, rule.prefregex.strip()))
                    )
                elif rule.ignoreregex.strip():
                    self._ignore[name] = [Pattern(source) for source in patterns_of(rule.ignoreregex)]
            except FailregexError as error:
                raise SettingsError(f"rules.{name}: {error}") from error
        self._built_in = {kind: name for kind, name in RULES.items() if settings.rules[name].enabled}

    def cannot_matter(self, datagram: bytes) -> bool:
        """Whether this is certainly the line of an HTTP request that no rule counts.

        nginx writes the request line right after a quote, and \\x22 for a quote within a field: a POST is `"POST `.
        JSON has no request line, but an alias, in which a client may write " HTTP/".
        """
        return b'"POST ' not in datagram and b" HTTP/" in datagram and b"{" not in datagram and not self._own

    def read(self, datagram: bytes) -> Reading:
        """The meaning of a syslog message or a line of a file, and the rule that counts it. Raises nothing."""
        line = self._classifier.classify(datagram)
        rule = self._built_in.get(line.meaning) if line.counted else None
        if rule is not None and not (self._ignore and self._is_ignored(rule, datagram)):
            return Reading(line, rule)
        if not self._own or line.meaning is Class.PROBE:
            return Reading(line, None)
        return self._by_own_rules(datagram, line)

    def _is_ignored(self, rule: str, datagram: bytes) -> bool:
        patterns = self._ignore.get(rule)
        if patterns is None:
            return False
        text = without_date(_text(syslog.message(datagram))).encode()
        return any(pattern.search(text) is not None for pattern in patterns)

    def _by_own_rules(self, datagram: bytes, line: Line) -> Reading:
        for name, own in self._own:
            found = self._found(own, datagram)
            if found is None or found.nofail:
                continue
            try:
                network = counted_network(found.address, *self._prefixes)
            except AddressError:
                continue
            meaning = Class.OTHER if line.meaning is Class.MALFORMED else line.meaning
            return Reading(Line(meaning, network, line.alias, line.id), name)
        return Reading(line, None)

    def _found(self, own: Filter, datagram: bytes) -> Found | None:
        """A daemon's filter looks for the daemon's name in the frame, one for access logs begins at the message."""
        framed = _text(syslog.without_priority(datagram))
        bare = _text(syslog.message(datagram))
        return own.match(framed) or (own.match(bare) if bare != framed else None)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
