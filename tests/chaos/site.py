"""The lab with a proxy in every link, so that each link can fail alone: RPs to the receiver, daemons to Redis."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.lab.lab import Lab, ReverseProxy
from tests.lab.process import Process
from tests.lab.proxy import TcpProxy, UdpProxy
from tests.lab.wires import CORE

#: Never banned: by ignoreip, and by the central allow-list.
IGNORED, ALLOWED = "192.0.2.0/24", "198.51.99.0/24"

SETTINGS = {
    "ignoreip": ["127.0.0.0/8", "::1", IGNORED],
    "receiver": {"receive_buffer": 1 << 20, "doubt_above": 0},  # each RP bans hundreds a minute
    "rules": {"pin": {"maxretry": 5, "findtime": "5m", "bantime": "40s"}},
}


class Site(Lab):
    """Its proxies run on the receiver's host: 10.77.0.2x is for rpx, 10.77.0.20 for the receiver's way to Redis."""

    def __init__(self, rps: int, seed: int) -> None:
        super().__init__(rps=rps, settings=SETTINGS)
        self._links = ExitStack()
        self._seed = seed
        self.restarted = False  #: whether Redis was, which begins a new epoch
        self.to_redis: list[TcpProxy] = []  #: of each RP, then of the receiver
        self.to_receiver: list[UdpProxy] = []  #: of each RP
        server = self.redis.process.argv
        server[server.index("--appendfsync") + 1] = "always"  # what was acknowledged survives a crash
        for number, rp in enumerate(self.rps, 1):
            assert rp.enforcer
            _redirect(rp.enforcer, f"10.77.0.{20 + number}")
        assert self.receiver
        _redirect(self.receiver, "10.77.0.20")

    def entrance(self, rp: ReverseProxy) -> tuple[str, int]:
        """Where this RP sends its log."""
        return f"10.77.0.{21 + self.rps.index(rp)}", 5514

    def passed(self) -> int:
        """How many datagrams the links have passed on to the receiver."""
        return sum(link.tally["passed"] for link in self.to_receiver)

    def is_idle(self) -> bool:
        """Whether the links have passed on all that they took and did not drop."""
        tallies = (link.tally for link in self.to_receiver)
        return all(each["passed"] == each["taken"] - each["dropped"] + each["doubled"] for each in tallies)

    def _lay_out(self) -> None:
        super()._lay_out()
        inside = self.core.namespace
        for number in [*range(1, len(self.rps) + 1), 0]:
            address = f"10.77.0.{20 + number}"
            inside.configure(f"addr add {address}/24 dev inside")
            link = TcpProxy(inside, (address, 6379), (CORE, 6379), self._seed + number)
            self.to_redis.append(self._links.enter_context(link))
            if number:
                log = UdpProxy(inside, (address, 5514), (CORE, 5514), self._seed + number)
                self.to_receiver.append(self._links.enter_context(log))

    def close(self) -> None:
        """Close everything, the links last: processes that end may still send something."""
        for process in self.processes:
            process.stop()
        self._links.close()
        super().close()


def _redirect(process: Process, address: str) -> None:
    file = Path(process.argv[-1])
    file.write_text(file.read_text().replace(f"{CORE}:6379", f"{address}:6379"))
