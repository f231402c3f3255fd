"""DNS names of ignoreip, looked up in the background. Only this thread waits for the resolver."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator

from shared.addresses import NetworkSet, parse_network
from shared.errors import AddressError
from shared.logs import Sparingly

#: How often every name is looked up again, s.
REFRESH_S = 60.0

_log = logging.getLogger("pinban")


def resolve(name: str) -> set[str]:
    """The addresses of a name, by the host's resolver; OSError when it has no answer."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    return {str(address[0]) for *_, address in found}


class Names(threading.Thread):
    """Keeps `networks` up to date. A name that cannot be looked up keeps the addresses that it had."""

    def __init__(self, names: Iterable[str], lookup: Callable[[str], set[str]] = resolve) -> None:
        super().__init__(name="names", daemon=True)
        self._known: dict[str, set[str]] = {name: set() for name in names}
        self._lookup = lookup
        self._stopping = threading.Event()
        self._sparingly = Sparingly(_log, every_s=300.0, burst=20)
        self.networks = NetworkSet(())  #: replaced as a whole, so that any thread may read it

    def stop(self) -> None:
        """End the loop, without waiting for a look-up under way."""
        self._stopping.set()

    def run(self) -> None:
        """Look up all names, again and again."""
        while self._known and not self._stopping.is_set():
            self.refresh()
            self._stopping.wait(REFRESH_S)

    def refresh(self) -> None:
        """Look up all names once."""
        for name in self._known:
            try:
                answers = self._lookup(name)
            except (OSError, UnicodeError) as error:
                self._sparingly.warning("name", "ignoreip: %s cannot be looked up (%s); keeps %s", name, error,
                                        ", ".join(sorted(self._known[name])) or "nothing")  # fmt: skip
                continue
            self._known[name] = set(self._networks(name, answers)) or self._known[name]
            self.networks = NetworkSet(address for known in self._known.values() for address in known)

    def _networks(self, name: str, answers: Iterable[str]) -> Iterator[str]:
        for answer in answers:
            try:
                yield str(parse_network(answer))
            except AddressError as error:  # for example one with a zone id
                self._sparingly.warning("answer", "ignoreip: one address of %s is left out: %s", name, error)
