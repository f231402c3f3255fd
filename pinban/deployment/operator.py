"""What an operator asks of the ledger and the counters, as plain values that print as JSON. No terminal."""

from __future__ import annotations

import ipaddress
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pinban.deployment.problems import doubts, notes, numbers, problems
from pinban.deployment.user import whoami
from receiver.probes import read_paths
from receiver.store import Counts, Doubt
from shared.addresses import Network, NetworkSet, counted_network, parse_network
from shared.errors import AddressError, PinbanError
from shared.exempt import Exemptions, names_of
from shared.ledger import AllowList, Entry, Ledger, NewBan, read_allow
from shared.nodes import read_nodes
from shared.settings import Settings
from shared.store import PATIENT_S, Keys, check_secrets, connect, losses, now_ms, read_memory, translated, understood

Row = dict[str, Any]

#: How long the resolver may take for the names of ignoreip, s; the enforcers exempt them in any case.
_RESOLVER_S = 3.0

#: Rooms looked at, those with the latest wrong PINs.
_MOST_ROOMS = 1_000


class Operator:
    """One deployment, seen by an operator. Every method raises StoreError when Redis fails."""

    def __init__(self, settings: Settings) -> None:
        check_secrets(settings)
        self._settings = settings
        self._client = connect(settings, "operator", PATIENT_S)
        self._keys = Keys(settings.redis.prefix)
        self._ledger = Ledger(settings, self._client)
        self._counts = Counts(settings, self._client)
        self._doubt = Doubt(settings, self._client)
        self._rules = settings.rules

    def status(self) -> Row:
        """The ledger, every node, and what is wrong."""
        with understood(self._settings):
            now = now_ms(self._client)
            pipeline = self._client.pipeline(transaction=False)  # a full Redis grants no MULTI, not even to read
            pipeline.get(self._keys.epoch)
            pipeline.get(self._keys.rev)
            pipeline.zrange(self._keys.bans, 0, -1, withscores=True)
            pipeline.xrevrange(self._keys.history, count=1)
            epoch, rev, bans, last = pipeline.execute()
            standing = sum(1 for _, until_ms in bans if until_ms > now)
            changed = int(last[0][0].partition(b"-")[0]) if last else 0
            ledger = {
                "epoch": epoch.decode() if epoch else "",
                "rev": int(rev or 0),
                "bans": standing,
                "unchanged_ms": max(now - changed, 0),
            }
        paths = read_paths(self._settings, self._client)
        nodes = read_nodes(self._settings, self._client)
        return {
            "ledger": ledger,
            "nodes": [{"name": n.name, "alive": n.alive, "silent_ms": n.silent_ms, **numbers(n.fields)} for n in nodes],
            "hot_rooms": sorted(self._ledger.hot_rooms()),
            "log": [
                {"rp": r.rp, "receiver": r.receiver, "silent_ms": r.silent_ms}
                | {"probes": len(r.window), "missing": r.missing, "lag_ms": r.lag_ms}
                for r in paths
                if any(n.name == r.rp for n in nodes)  # of names that nobody knows there may be many
            ],
            "doubted": (doubted := self._doubt.doubted()),
            "problems": doubts(doubted)
            + losses(read_memory(self._settings, self._client))
            + problems(ledger, nodes, paths),
            "notes": notes(nodes, paths),
        }

    def bans(self) -> list[Row]:
        """Who is banned, the ban that lasts longest first; then who would be, if rules did not only simulate."""
        return [
            *self._bans(self._keys.bans, self._keys.ban, simulated=False),
            *self._bans(self._keys.simulated, self._keys.simulation, simulated=True),
        ]

    def _bans(self, zset: str, key: Callable[[Network], str], *, simulated: bool) -> list[Row]:
        with understood(self._settings):
            now = now_ms(self._client)
            pipeline = self._client.pipeline(transaction=False)
            pipeline.zrange(zset, "+inf", f"({now}", desc=True, byscore=True, withscores=True)
            [members] = pipeline.execute()
            networks = [Network(member.decode()) for member, _ in members]
            for network in networks:
                pipeline.hgetall(key(network))
            details = pipeline.execute()
            return [
                {
                    **_ban_row(network, int(until_ms) - now, {k.decode(): v.decode() for k, v in facts.items()}),
                    "simulated": simulated,
                }
                for network, (_, until_ms), facts in zip(networks, members, details, strict=True)
            ]

    def ban(self, address: str, bantime_ms: int, why: str) -> Row:
        """Ban an address or network; a standing ban becomes longer, never shorter."""
        network = self.network(address)
        names = names_of(self._settings)
        looking = threading.Thread(target=names.refresh, daemon=True)
        looking.start()
        looking.join(_RESOLVER_S)
        exempt = Exemptions(self._settings, names)
        entries, now = read_allow(self._settings, self._client)
        exempt.learn(AllowList(entries, now, time.monotonic_ns() // 1_000_000))
        if reason := exempt(network):
            raise PinbanError(f"{network} is never banned: {reason}")
        ban = NewBan(network, bantime_ms, "manual", json.dumps({"why": why}), whoami())
        recorded = self._ledger.ban(ban, lengthen=True)
        with translated(self._settings):
            left_ms = recorded.until_ms - now_ms(self._client)
        return {"network": network, "new": recorded.new, "left_ms": left_ms, "strikes": recorded.strikes}

    def unban(self, address: str, why: str) -> Row:
        """End a ban, also one that was only simulated.

        `within` names the banned networks that hold the address when it has no ban of its own.
        """
        network = self.network(address)
        was_banned = self._ledger.unban(network, why, whoami())
        self._counts.forget(network, self._rules)
        with translated(self._settings):
            self._client.zrem(self._keys.simulated, network)
            self._client.delete(self._keys.simulation(network))
        within = [] if was_banned else self._banned_around(network)
        return {"network": network, "was_banned": was_banned, "within": within}

    def allowed(self) -> list[Row]:
        """The central allow-list."""
        entries, now = read_allow(self._settings, self._client)
        return [
            {"network": e.network, "note": e.note, "left_ms": e.until_ms - now if e.until_ms else None} for e in entries
        ]

    def allow(self, address: str, for_ms: int | None, note: str) -> Row:
        """Put a network on the allow-list, for ever or for a while; bans that it overlaps end at once, everywhere."""
        network = self._written(address)
        with understood(self._settings):
            now = now_ms(self._client)
            pipeline = self._client.pipeline(transaction=False)
            pipeline.zrange(self._keys.bans, 0, -1)
            banned = [Network(member.decode()) for member in pipeline.execute()[0]]
        lift = [each for each in banned if NetworkSet((network,)).overlaps(each)]
        entry = Entry(network, note, now + for_ms if for_ms else 0)
        lifted, _ = self._ledger.allow(network, entry.encode(), lift, whoami())
        for each in lift:
            self._counts.forget(each, self._rules)
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
        with understood(self._settings):
            keys = list({bytes(key).decode() for key in self._client.scan_iter(match=f"{prefix}*", count=10_000)})
            pipeline = self._client.pipeline(transaction=False)
            for key in keys:
                pipeline.get(key)
                pipeline.pttl(key)
            replies = pipeline.execute()
            rows: list[Row] = []
            for key, count, ttl_ms in zip(keys, replies[::2], replies[1::2], strict=True):
                network, _, rule = key.removeprefix(prefix + "{").partition("}:")
                windows = {w.name: w for name, each in self._rules.items() for w in each.windows(name)}
                if count is not None and rule in windows:  # else it expired meanwhile, or is of other settings
                    facts = {"network": network, "rule": rule, "count": int(count), "ttl_ms": max(ttl_ms, 0)}
                    rows.append({**facts, "maxretry": windows[rule].maxretry})
        return sorted(rows, key=lambda row: (-row["count"], row["network"]))

    def rooms(self) -> list[Row]:
        """The rooms with wrong PINs lately, the most tried first."""
        keys = self._keys
        with understood(self._settings):
            found: Any = self._client.zrevrange(keys.rooms, 0, _MOST_ROOMS - 1)
            rooms = [room.decode("utf-8", "replace") for room in found]
            pipeline = self._client.pipeline(transaction=False)
            for room in rooms:
                pipeline.zcard(keys.room_failures(room))
                pipeline.pfcount(keys.room_addresses(room))
            counts = pipeline.execute()
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
        with translated(self._settings):
            now = now_ms(self._client)
            until = self._client.zmscore(self._keys.bans, [str(n) for n in around])
        return [n for n, until_ms in zip(around, until, strict=True) if until_ms is not None and until_ms > now]


def _ban_row(network: Network, left_ms: int, facts: Mapping[str, str]) -> Row:
    evidence: Any = json.loads(facts.get("evidence") or "[]")
    return {
        "network": network,
        "left_ms": left_ms,
        "rule": facts.get("rule", ""),
        "since_ms": int(facts.get("since", 0)),
        "until_ms": int(facts.get("until", 0)),
        "strikes": int(facts.get("strikes", 0)),
        "why": evidence.get("why", "") if isinstance(evidence, dict) else "",
        "evidence": evidence if isinstance(evidence, list) else [],
        "by": facts.get("by", ""),
    }
