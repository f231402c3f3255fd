"""A fail2ban jail's limits and addresses as pinban's settings, and notes on options without counterpart. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pinban.fail2ban.files import Config, is_true, listed, words_of
from pinban.fail2ban.values import MOST_PORTS, duration, network_of, ports_of, seconds_of, toml_text
from shared.errors import AddressError, SettingsError
from shared.settings import parse_ignored

#: Why an option of a jail is not in the output. A name here also covers options that begin with it.
_WHY = {
    "action": "pinban's enforcer drops banned addresses in the kernel; the only other action is [mail]",
    "banaction": "pinban's enforcer drops banned addresses in the kernel itself",
    "mta": "the receivers mail through [mail] server themselves",
    "logpath": "lines come by syslog; let the server log to [receiver] listen",
    "logencoding": "lines are read as UTF-8",
    "logtimezone": "a line counts when it arrives, whatever its date",
    "backend": "lines come by syslog, not from files or the journal",
    "bantime.formula": "pinban's ban times grow by doubling",
    "bantime.multipliers": "pinban's ban times grow by doubling",
    "bantime.overalljails": "earlier bans by any rule count",
    "ignorecommand": "pinban runs no commands; list the addresses in ignoreip",
    "ignorecache": "pinban runs no ignorecommand",
    "maxmatches": "pinban keeps as many failures of a ban as the rule's maxretry",
    "fail2ban_": "it only names fail2ban's own version or folders",
}

#: Options that are translated, here or in the filter's reader.
_TRANSLATED = frozenset(
    (
        "enabled",
        "filter",
        "mode",
        "maxretry",
        "findtime",
        "bantime",
        "bantime.increment",
        "bantime.factor",
        "bantime.maxtime",
        "bantime.rndtime",
        "ignoreip",
        "ignoreself",
        "port",
        "protocol",
        "chain",
        "usedns",
        "datepattern",
        "destemail",
        "sender",
        "journalmatch",
        "maxlines",
        "failregex",
        "ignoreregex",
        "prefregex",
    )
)

_DAY = 86_400


class Jail:
    """A jail's options, with every reference resolved."""

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self._config = config

    @property
    def enabled(self) -> bool:
        """Whether fail2ban would run it."""
        return is_true(self.maybe("enabled", []))

    def get(self, option: str) -> str:
        """An option, empty when it is not set. SettingsError for a reference to nothing."""
        return (self._config.get(self.name, option) or "").strip()

    def raw(self, option: str) -> str:
        """An option as it is written, with its references; empty when it is not set."""
        return self._config.sections[self.name].get(option) or self._config.defaults.get(option, "")

    def maybe(self, option: str, notes: list[str]) -> str:
        """As `get`, for options that count for all jails together: a reference to nothing gives "" and a note."""
        try:
            return self.get(option)
        except SettingsError as error:
            notes.append(f"{option} is left out: {error}")
            return ""

    def own(self, option: str, known: Mapping[str, str]) -> str | None:
        """The jail's own value of a filter's option, None without one; `known` resolves %(known/name)s."""
        return self._config.get(self.name, option, known)

    def options(self) -> list[str]:
        """The options in the jail's own section."""
        return list(self._config.sections[self.name])


def limits_of(jail: Jail, notes: list[str]) -> list[str]:
    """The lines of a rule about how many failures are a ban, and for how long."""
    lines = []
    retries = jail.get("maxretry")
    if retries.isascii() and retries.isdigit():
        count = min(max(int(retries[:9]), 1), 1_000)
        if str(count) != retries:
            notes.append(f"maxretry = {retries} is out of range, so it is {count} here")
        lines.append(f"maxretry = {count}")
    else:
        notes.append(f"maxretry = {retries} is not a number; the default is used")
    for option, least, most in (("findtime", 1, 30 * _DAY), ("bantime", 2, 3_650 * _DAY)):
        lines += _length(jail, option, option, least, most, notes)
    if is_true(jail.get("bantime.increment")):
        lines.append("bantime_increment = true")
        factor = jail.get("bantime.factor")
        if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", factor):
            within = min(max(float(factor), 0.01), 1_000)
            lines.append(f"bantime_factor = {within:g}")
            if within != float(factor):
                notes.append(f"bantime.factor = {factor} is out of range, so it is {within:g} here")
        elif factor:
            notes.append(f"bantime.factor = {factor} is not a plain number; the default is used")
        if jail.get("bantime.maxtime"):
            lines += _length(jail, "bantime.maxtime", "bantime_maxtime", 2, 3_650 * _DAY, notes)
        if jail.get("bantime.rndtime"):
            lines += _length(jail, "bantime.rndtime", "bantime_jitter", 0, 30 * _DAY, notes)
    elif any(jail.get(f"bantime.{name}") for name in ("factor", "maxtime", "rndtime")):
        notes.append("bantime.factor, .maxtime and .rndtime are left out: bantime.increment is off")
    return lines


def _length(jail: Jail, option: str, name: str, least: int, most: int, notes: list[str]) -> list[str]:
    text = jail.get(option)
    seconds = seconds_of(text)
    if seconds is None and text.startswith("-") and option != "findtime":
        notes.append(f"{option} = {text} is for ever; here it is {duration(most)}, the longest possible")
        seconds = most
    if seconds is None:
        notes.append(f"{option} = {text} is not a length of time that pinban reads; the default is used")
        return []
    within = min(max(seconds, least), most)
    if within != seconds:
        notes.append(f"{option} = {text} is out of range, so it is {duration(within)} here")
    return [f'{name} = "{duration(within)}"']


def _is_dns_name(text: str) -> bool:
    try:
        return parse_ignored(text) is None
    except AddressError:
        return False


def ignored_by(jails: Sequence[Jail], notes: list[str]) -> list[str]:
    """The lines about who is never counted: one list for all rules."""
    lists = {jail.name: words_of(jail.maybe("ignoreip", notes)) for jail in jails}
    networks: list[str] = []
    names: list[str] = []
    for text in dict.fromkeys(word for words in lists.values() for word in words):
        network = network_of(text)
        if network is None:
            (networks if _is_dns_name(text) else names).append(text)
        else:
            networks.append(network)
            if network != text:
                notes.append(f"ignoreip: {text} is written as {network}, the network that it is in")
    lines = []
    if networks:
        lines += [f"ignoreip = [{', '.join(toml_text(n) for n in dict.fromkeys(networks))}]"]
    if names:
        notes.append(f"ignoreip: {listed(names)} is neither an address nor a DNS name, so it is left out")
    if len({tuple(sorted(words)) for words in lists.values()}) > 1:
        notes.append("ignoreip differs between jails; pinban has one list, and it holds for all rules")
    selves = {is_true(jail.maybe("ignoreself", notes) or "true") for jail in jails}
    if selves == {False}:
        lines.append("ignoreself = false")
    elif len(selves) > 1:
        notes.append("ignoreself differs between jails; pinban ignores the host's own addresses for all rules")
    return ["", *lines] if lines else []


def enforcer_of(jails: Sequence[Jail], notes: list[str]) -> list[str]:
    """The section about the ports that are closed to a banned address: the same for all rules."""
    if not jails:
        return []
    ports: set[int] = set()
    every = False
    places = {jail.name: (jail.maybe("port", notes), jail.maybe("protocol", notes)) for jail in jails}
    for jail in jails:
        port = places[jail.name][0]
        wanted, reason = ports_of(port)
        ports |= wanted
        if "allports" in jail.maybe("banaction", notes) or reason == "":
            every = True
            notes.append(f"[{jail.name}] closes every port (port is not set, is 0:65535, or banaction says so)")
        elif reason:
            every = True
            notes.append(f"[{jail.name}] port = {port}: {reason}; all ports are closed to a banned address")
    protocols = {part.lower() for _, listed_there in places.values() for part in words_of(listed_there)} or {"tcp"}
    protocol = next(iter(protocols)) if len(protocols) == 1 else "all"
    if protocol not in ("tcp", "udp", "all"):
        notes.append(f"protocol = {protocol} has no counterpart; all protocols are closed to a banned address")
        protocol = "all"
    if not every and (len(ports) > MOST_PORTS or protocol == "all"):
        every = True
        notes.append(f"{len(ports)} ports, protocol {protocol}: all are closed to a banned address")
    if len(set(places.values())) > 1:
        notes.append("port and protocol differ between jails; pinban closes one list of ports to every banned address")
    lines = ["", "[enforcer]", 'ports = "all"' if every else f"ports = {sorted(ports)}", f'protocol = "{protocol}"']
    chains = [c for jail in jails for c in words_of(jail.maybe("chain", [])) if re.fullmatch(r"[A-Za-z0-9_-]{1,28}", c)]
    if chains:
        lines.append(f"chains = [{', '.join(toml_text(c) for c in dict.fromkeys(chains))}]")
    odd = sorted({jail.maybe("chain", notes) for jail in jails} - set(chains) - {"", "<known/chain>"})
    if odd:
        notes.append(f"chain = {listed(odd)} is not the name of a chain; INPUT is used, or set [enforcer] chains")
    return lines


def left_out(config: Config, jails: Sequence[Jail]) -> list[str]:
    """A note for each option that is not translated, with the reason; one note however many jails have it."""
    where: dict[str, list[str]] = {}
    if jails:
        for option in sorted(config.given):
            where.setdefault(option, []).append("DEFAULT")
    for jail in jails:
        for option in jail.options():
            where.setdefault(option, []).append(jail.name)
    notes, unknown = [], []
    for option, names in where.items():
        if option in _TRANSLATED:
            continue
        why = _WHY.get(option) or next((why for known, why in _WHY.items() if _begins(option, known)), None)
        if why is None:
            unknown.append(option)
        else:
            notes.append(f"{option} ({listed(names, 4)}) is left out: {why}")
    if unknown:
        notes.append(f"left out, because only other options or actions use them: {listed(unknown, 40)}")
    return notes


def _begins(option: str, known: str) -> bool:
    return (known.endswith("_") and option.startswith(known)) or option.startswith((f"{known}_", f"{known}?"))
