"""What an operator asks of the ledger and the counters, as plain values that print as JSON. No terminal."""

from __future__ import annotations

import ipaddress
import json
import threading
import time
from typing import Any

from pinban.deployment.problems import doubts, nonsense, notes, problems, values
from pinban.deployment.user import whoami
from receiver.probes import read_paths
from receiver.store import Counters, Doubt
from shared.addresses import Network, NetworkSet, counted_network, parse_network
from shared.errors import AddressError, PinbanError, StoreError
from shared.exempt import Exemptions, names_of
from shared.ledger import (
    AllowList,
    Entry,
    Ledger,
    NewBan,
    Standing,
    banned,
    read_allow,
    standing,
    unreadable_entries,
)
from shared.nodes import read_nodes
from shared.settings import Settings
from shared.store import PATIENT_S, Command, check_redis, connect, losses, number, read_memory, text_of

Row = dict[str, Any]

#: How long the resolver may take for the names of ignoreip, s; the enforcers exempt them in any case.
_RESOLVER_S = 3.0

#: Keys that Redis is asked about in one round trip.
_PAGE = 1_000

#: Most odd members of one key that are named, and how far from each end of the bans they are looked for.
_ODD = 20

#: Most rooms that are listed: the warmest (receiver/store/rooms.py).
_MOST_ROOMS = 1_000


class Operator:
    """One deployment, seen by an operator. Every method raises StoreError when Redis fails."""

    def __init__(self, settings: Settings) -> None:
        check_redis(settings)
        self._settings = settings
        self._store = connect(settings, "operator", PATIENT_S)
        self._keys = self._store.keys
        self._ledger = Ledger(self._store)
        self._counters = Counters(self._store, settings)
        self._doubt = Doubt(self._store, settings.receiver)
        self._rules = settings.rules

    def status(self) -> Row:
        """The ledger, every node, and what is wrong. Cheap however many bans there are: it is asked again and again."""
        ledger = self._ledger_now()
        paths = read_paths(self._store)
        nodes = read_nodes(self._store)
        doubted = self._doubt.doubted()
        return {
            "ledger": ledger,
            "nodes": [{"name": n.name, "alive": n.alive, "silent_ms": n.silent_ms, **values(n)} for n in nodes],
            "hot_rooms": sorted(self._ledger.hot_rooms()),
            "log": [
                {"rp": r.rp, "receiver": r.receiver, "silent_ms": r.silent_ms}
                | {"probes": len(r.window), "missing": r.missing, "lag_ms": r.lag_ms}
                for r in paths
                if any(n.name == r.rp for n in nodes)  # there may be many forged names
            ],
            "doubted": doubted,
            "problems": nonsense(nodes, self._keys.node)
            + doubts(doubted)
            + losses(read_memory(self._store))
            + problems(ledger, nodes, paths),
            "notes": notes(nodes, paths) + self._unreadable(),
        }

    def _ledger_now(self) -> Row:
        now_ms = self._store.now_ms()
        epoch, rev, bans, last, heartbeat = self._store.together(  # a full Redis refuses MULTI, even to read
            [
                ("GET", self._keys.epoch),
                ("GET", self._keys.rev),
                ("ZCOUNT", self._keys.bans, f"({now_ms}", "+inf"),
                ("XREVRANGE", self._keys.history, "+", "-", "COUNT", 1),
                ("GET", self._keys.heartbeat),
            ]
        )
        changed = int(last[0][0].partition(b"-")[0]) if last else 0
        return {
            "epoch": text_of(epoch or b""),
            "rev": number(rev),
            "bans": bans,
            "unchanged_ms": max(now_ms - changed, 0),
            "heartbeat_ms": max(now_ms - number((heartbeat or b"").rpartition(b" ")[2], now_ms), 0),
        }

    def _unreadable(self) -> list[str]:
        """What stands in keys of ours and pinban did not write: it has no effect, and is named here."""
        odd = [
            (self._keys.allow, unreadable_entries(self._store), "HDEL"),
            (self._keys.bans, self._odd_bans(), "ZREM"),
        ]
        return [
            f"{key} holds {name[:64]!r}, which is no network and has no effect; {remove} it"
            for key, names, remove in odd
            for name in names[:_ODD]
        ]

    def _odd_bans(self) -> list[str]:
        """Members of the ledger's bans that are no network, looked for at both ends of the set."""
        ends = self._store.together(
            [
                ("ZRANGE", self._keys.bans, 0, _ODD - 1),
                ("ZRANGE", self._keys.bans, -_ODD, -1),
            ]
        )
        return sorted({text_of(member) for end in ends for member in end if _is_odd(text_of(member))})

    def bans(self) -> list[Row]:
        """Who is banned, the ban that lasts longest first; then who would be, if rules did not only simulate."""
        now_ms = self._store.now_ms()
        rows = [*standing(self._store), *standing(self._store, simulated=True)]
        return [_ban_row(each, now_ms) for each in rows]

    def ban(self, address: str, bantime_ms: int, why: str) -> Row:
        """Ban an address or network; a standing ban becomes longer, never shorter."""
        network = self.network(address)
        names = names_of(self._settings)
        looking = threading.Thread(target=names.refresh, daemon=True)
        looking.start()
        looking.join(_RESOLVER_S)
        exempt = Exemptions(self._settings, names)
        entries, now = read_allow(self._store)
        exempt.learn(AllowList(entries, now, time.monotonic_ns() // 1_000_000))
        if reason := exempt(network):
            raise PinbanError(f"{network} is never banned: {reason}")
        ban = NewBan(network, bantime_ms, "manual", json.dumps({"why": why}), whoami())
        recorded = self._ledger.ban(ban, lengthen=True)
        left_ms = recorded.until_ms - self._store.now_ms()
        return {"network": network, "new": recorded.new, "left_ms": left_ms, "strikes": recorded.strikes}

    def unban(self, address: str, why: str) -> Row:
        """End a ban, also one that was only simulated.

        `within` names the banned networks that hold the address when it has no ban of its own.
        """
        network = self.network(address)
        was_banned = self._ledger.unban(network, why, whoami())
        self._counters.forget(network, self._rules)
        self._store.together([("ZREM", self._keys.simulated, network), ("DEL", self._keys.simulation(network))])
        within = [] if was_banned else self._banned_around(network)
        return {"network": network, "was_banned": was_banned, "within": within}

    def allowed(self) -> list[Row]:
        """The central allow-list."""
        entries, now = read_allow(self._store)
        return [
            {"network": e.network, "note": e.note, "left_ms": e.until_ms - now if e.until_ms else None} for e in entries
        ]

    def allow(self, address: str, for_ms: int | None, note: str) -> Row:
        """Put a network on the allow-list, for ever or for a while; bans that it overlaps end at once, everywhere."""
        network = self._written(address)
        inside = NetworkSet((network,))
        lift = [each for each in banned(self._store).networks if inside.overlaps(each)]
        entry = Entry(network, note, self._store.now_ms() + for_ms if for_ms else 0)
        lifted, _ = self._ledger.allow(network, entry.encode(), lift, whoami())
        for each in lift:
            self._counters.forget(each, self._rules)
        return {"network": network, "lifted": lifted}

    def disallow(self, address: str) -> Row:
        """Take a network off the allow-list."""
        network = self._written(address)
        _, changed = self._ledger.allow(network, "", (), whoami())
        return {"network": network, "was_allowed": changed}

    def trust(self, sender: str) -> Row:
        """Let the lines of a sender ban again, before the time of the doubt is over."""
        name = sender if sender == "local" else str(self._written(sender))
        return {"sender": name, "was_doubted": self._doubt.trust(name, whoami())}

    def counters(self) -> list[Row]:
        """Who has failed lately, the highest counts first."""
        prefix = self._keys.count(Network(""), "").partition("{")[0]
        keys = list({text_of(key) for key in self._store.scan(f"{prefix}*")})
        windows = {w.name: w for name, each in self._rules.items() for w in each.windows(name)}
        rows: list[Row] = []
        for start in range(0, len(keys), _PAGE):
            page = keys[start : start + _PAGE]
            commands: list[Command] = [(verb, key) for key in page for verb in ("GET", "PTTL")]
            replies = self._store.each(commands)
            for key, count, ttl_ms in zip(page, replies[::2], replies[1::2], strict=True):
                network, _, rule = key.removeprefix(prefix + "{").partition("}:")
                if count is None or isinstance(count, StoreError) or rule not in windows:
                    continue  # it expired meanwhile, is of other settings, or is no counter of ours
                facts = {"network": network, "rule": rule, "count": number(count), "ttl_ms": max(ttl_ms, 0)}
                rows.append({**facts, "maxretry": windows[rule].maxretry})
        return sorted(rows, key=lambda row: (-row["count"], row["network"]))

    def rooms(self) -> list[Row]:
        """The rooms with wrong PINs lately, the most tried first."""
        keys = self._keys
        rooms = [text_of(room) for room in self._store.call("ZREVRANGE", keys.rooms, 0, _MOST_ROOMS - 1)]
        commands: list[Command] = []
        for room in rooms:
            commands += [("ZCARD", keys.room_failures(room)), ("PFCOUNT", keys.room_addresses(room))]
        counts = [0 if isinstance(reply, StoreError) else int(reply) for reply in self._store.each(commands)]
        hot = self._ledger.hot_rooms()
        rows = [
            {"room": room, "failures": failures, "addresses": addresses, "hot": room in hot}
            for room, failures, addresses in zip(rooms, counts[::2], counts[1::2], strict=True)
            if failures
        ]
        return sorted(rows, key=lambda row: (-row["failures"], row["room"]))

    def network(self, text: str) -> Network:
        """What an operator means: a network as written, an address as it would be counted."""
        network = self._written(text)
        if "/" in text:
            return network
        return counted_network(network, self._settings.ipv6_prefix, self._settings.ipv4_prefix)

    def _written(self, text: str) -> Network:
        try:
            return parse_network(text)
        except AddressError as error:
            raise AddressError(f"{error}; write 203.0.113.7, 2001:db8::1 or 203.0.113.0/24") from error

    def _banned_around(self, network: Network) -> list[Network]:
        asked = ipaddress.ip_network(network)
        around = [parse_network(str(asked.supernet(new_prefix=p))) for p in range(asked.prefixlen)]
        if not around:
            return []
        now_ms = self._store.now_ms()
        until = self._store.call("ZMSCORE", self._keys.bans, *around)
        return [n for n, until_ms in zip(around, until, strict=True) if until_ms is not None and until_ms > now_ms]


def _is_odd(member: str) -> bool:
    try:
        parse_network(member)
    except AddressError:
        return True
    return False


def _ban_row(ban: Standing, now_ms: int) -> Row:
    return {
        "network": ban.network,
        "left_ms": ban.until_ms - now_ms,
        "rule": ban.rule,
        "since_ms": ban.since_ms,
        "until_ms": ban.until_ms,
        "strikes": ban.strikes,
        "why": ban.why,
        "evidence": ban.evidence,
        "by": ban.by,
        "simulated": ban.simulated,
    }
