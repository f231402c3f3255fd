"""The thread that sends numbered probes through this RP's own nginx, so that lost log lines are noticed.

It asks nginx and counts the answers; the receiver sees whether the lines arrive. It never touches the firewall.
"""

from __future__ import annotations

import http.client
import logging
import secrets
import threading
from contextlib import closing

from shared.clock import RedisClock
from shared.probe import TOGETHER, Probe, ProbeUrl, parse_probe_url
from shared.settings import Settings

#: Longest wait for nginx, s. It answers from its configuration, in a millisecond.
_ANSWER_S = 2.0

#: Between two probes on one connection, s: by then a host without a receiver has refused the first one's line.
_BETWEEN_S = 0.05

#: Rounds in a row without an answer that are a fault: fewer may be a restart of nginx.
_PATIENCE = 3

_log = logging.getLogger("pinban.enforcer")


class Probes(threading.Thread):
    """Asks until told to stop; ends at once when enforcer.probe_url is empty."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="probes", daemon=True)
        self._rp = settings.enforcer.node
        self._url = parse_probe_url(settings.enforcer.probe_url)
        self._stopping = threading.Event()
        self._unanswered = 0  #: rounds in a row
        self.every_ms = int(settings.enforcer.probe_every)
        self.instance = secrets.token_hex(4)  #: tells this start of the enforcer from all others
        self.clock = RedisClock()
        self.sent = 0 if self._url else -1  #: the last number that nginx answered; -1: no probes
        self.trouble = ""  #: why nginx does not answer, after _PATIENCE rounds

    def stop(self) -> None:
        """End the loop."""
        self._stopping.set()

    def run(self) -> None:
        """Ask nginx, every few seconds."""
        while self._url and not self._stopping.is_set():
            try:
                self._heed(self._ask(self._url))
            except Exception:  # noqa: BLE001  one bug must not end the probes
                _log.exception("could not send a probe")
            self._stopping.wait(self.every_ms / 1_000)

    def _ask(self, url: ProbeUrl) -> str:
        """Ask for a few probes on a connection of their own, so by one worker of nginx; why that failed, or ""."""
        try:
            with closing(http.client.HTTPConnection(url.host, url.port, timeout=_ANSWER_S)) as connection:
                for _ in range(TOGETHER):
                    probe = Probe(self._rp, self.instance, self.sent + 1, self.clock.now_ms())
                    connection.request("GET", f"{url.path}/{probe}")
                    answer = connection.getresponse()
                    if answer.status != http.HTTPStatus.NO_CONTENT:
                        return f"answers with status {answer.status}"
                    answer.read()
                    self.sent += 1
                    self._stopping.wait(_BETWEEN_S)
        except (OSError, http.client.HTTPException) as error:
            said = " ".join(str(error).split())[:100]
            return f"does not answer ({said or type(error).__name__})"
        return ""

    def _heed(self, why: str) -> None:
        if not why:
            if self.trouble:
                _log.info("nginx answers to probes again")
            self._unanswered, self.trouble = 0, ""
            return
        self._unanswered += 1
        if self._unanswered >= _PATIENCE:
            if not self.trouble:
                _log.warning("nginx %s when asked for a probe; does it include this version's nginx/pinban.conf?", why)
            self.trouble = f"nginx {why} when asked for a probe"
