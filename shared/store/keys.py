"""The names in Redis, all of them. Pure.

`{prefix}` and `{address}` are hash tags: in a Redis Cluster the counters of one address share a slot, and so does the
whole ledger (redis.io, cluster specification, hash tags).
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.addresses import Network


@dataclass(frozen=True, slots=True)
class Keys:
    """Every key and the channel, for one prefix."""

    prefix: str = "pinban"

    def count(self, network: Network, rule: str) -> str:
        """String, integer, TTL: failures now in the window."""
        return f"{self.prefix}:count:{{{network}}}:{rule}"

    def window(self, network: Network, rule: str) -> str:
        """ZSET "id rp alias" -> ms, TTL: the failures themselves, at most maxretry. In a wider network "id rp alias
        client", at most twice its limit.
        """
        return f"{self.prefix}:window:{{{network}}}:{rule}"

    def copies(self, network: Network, rule: str) -> str:
        """Hash "hash receiver" -> arrivals, TTL: which lines without a request id a receiver has told already."""
        return f"{self.prefix}:copies:{{{network}}}:{rule}"

    def joined(self, network: Network) -> str:
        """ZSET client -> ms, TTL: who joined lately, in a network wider than one client's."""
        return f"{self.prefix}:joined:{{{network}}}"

    def forgiven(self, network: Network, rule: str, join: str) -> str:
        """String, TTL: ids of the failures that a right PIN, by its own id, took back."""
        return f"{self.prefix}:forgiven:{{{network}}}:{rule}:{join}"

    @property
    def bans(self) -> str:
        """ZSET network -> until, ms of Redis TIME: who is banned now."""
        return f"{{{self.prefix}}}:bans"

    def ban(self, network: Network) -> str:
        """Hash, TTL: rule, since, until, strikes, evidence, by."""
        return f"{{{self.prefix}}}:ban:{network}"

    def strikes(self, network: Network) -> str:
        """String, integer, TTL: earlier bans."""
        return f"{{{self.prefix}}}:strikes:{network}"

    @property
    def simulated(self) -> str:
        """ZSET network -> until, ms: who would be banned now if rules did not only simulate."""
        return f"{{{self.prefix}}}:simulated"

    def simulation(self, network: Network) -> str:
        """Hash, TTL: as `ban`, of a ban that was only simulated."""
        return f"{{{self.prefix}}}:simulation:{network}"

    @property
    def doubted(self) -> str:
        """ZSET sender -> until, ms: whose lines ban nobody now, because they banned too many."""
        return f"{{{self.prefix}}}:doubted"

    def sender(self, name: str) -> str:
        """ZSET network -> ms, TTL: bans of the last minute by a sender's lines."""
        return f"{{{self.prefix}}}:sender:{name}"

    def judged(self, sender: str) -> str:
        """Hash, TTL: how many bans by a doubted sender's lines were made, made briefly, only simulated."""
        return f"{{{self.prefix}}}:judged:{sender}"

    def witness(self, rp: str) -> str:
        """Hash "network id" -> seen, unseen or unknown, TTL: what an RP's kernel knows, for each question."""
        return f"{{{self.prefix}}}:witness:{rp}"

    @property
    def allow(self) -> str:
        """Hash network -> JSON {"note", "until"}: the central allow-list; until is ms of Redis TIME, or 0 for ever."""
        return f"{{{self.prefix}}}:allow"

    @property
    def rooms(self) -> str:
        """ZSET room -> ms until which it is warm: the rooms that are watched, the first to be dropped first."""
        return f"{{{self.prefix}}}:rooms"

    @property
    def hot(self) -> str:
        """ZSET room -> until, ms: the rooms under attack."""
        return f"{{{self.prefix}}}:hot"

    def room_failures(self, room: str) -> str:
        """ZSET failure id -> ms, TTL: wrong PINs on one room."""
        return f"{self.prefix}:room:{{{room}}}:failures"

    def room_addresses(self, room: str) -> str:
        """HyperLogLog, TTL: the networks they came from, each a /24 or a /48."""
        return f"{self.prefix}:room:{{{room}}}:addresses"

    @property
    def rev(self) -> str:
        """String, integer: number of the last change."""
        return f"{{{self.prefix}}}:rev"

    @property
    def epoch(self) -> str:
        """String, 16 hexadecimal digits: which ledger this is; the last eight, which process wrote it."""
        return f"{{{self.prefix}}}:epoch"

    @property
    def heartbeat(self) -> str:
        """String "who ms": who sent the last heartbeat, and when by Redis TIME; no other follows for a moment."""
        return f"{{{self.prefix}}}:heartbeat"

    @property
    def probes(self) -> str:
        """Hash "RECEIVER RP" -> JSON, TTL: which of an RP's numbered probes came to a receiver, and when."""
        return f"{{{self.prefix}}}:probes"

    @property
    def sizes(self) -> str:
        """Hash, TTL: size in bytes, or "more" -> how often a 403 with a PIN had it, and no setting explains it."""
        return f"{{{self.prefix}}}:sizes"

    @property
    def sizes_told(self) -> str:
        """String, TTL: while this key lives no receiver logs the sizes again."""
        return f"{{{self.prefix}}}:sizes-told"

    @property
    def history(self) -> str:
        """Stream, capped: every ban and unban, hot room, change of the allow-list and doubt, with who and why."""
        return f"{{{self.prefix}}}:history"

    @property
    def mailed(self) -> str:
        """String, the id of the last entry of the history that mail was sent about."""
        return f"{{{self.prefix}}}:mailed"

    @property
    def mailing(self) -> str:
        """String, TTL: the receiver that sent the last mail; while this key lives nobody sends another."""
        return f"{{{self.prefix}}}:mailing"

    @property
    def leaks(self) -> str:
        """ZSET "sender network" -> ms, TTL: banned networks that get through, and when that was seen last."""
        return f"{{{self.prefix}}}:leaks"

    @property
    def suspects(self) -> str:
        """ZSET "sender network" -> ms, TTL: those of which one request came through; a leak is the next one."""
        return f"{{{self.prefix}}}:suspects"

    def node(self, name: str) -> str:
        """Hash, TTL: what a daemon says of itself."""
        return f"{{{self.prefix}}}:node:{name}"

    @property
    def nodes(self) -> str:
        """Set: the names of all daemons, so that nobody has to search all keys for them."""
        return f"{{{self.prefix}}}:nodes"

    @property
    def channel(self) -> str:
        """Channel of the events. Pub/sub knows no database numbers, so the prefix keeps deployments apart."""
        return f"{self.prefix}:events"
