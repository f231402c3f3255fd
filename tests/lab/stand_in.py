"""The conference node's stand-in as a process of the lab, and its counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.lab.clients import ALIAS, PIN
from tests.lab.http1 import Connection
from tests.lab.netns import Namespace
from tests.lab.process import LabError, Process

PORT = 8080


class StandIn(Process):
    """One room, ALIAS with PIN; see tests.lab.node."""

    def __init__(self, address: str, directory: Path, namespace: Namespace, *, delay_ms: float, chunked: bool) -> None:
        argv = [sys.executable, "-m", "tests.lab.node", "--listen", f"{address}:{PORT}"]
        argv += ["--pin", f"{ALIAS}={PIN}", "--delay-ms", str(delay_ms), *(["--chunked"] if chunked else [])]
        super().__init__("node", argv, directory, namespace)
        self._address = address
        self._namespace = namespace

    def is_ready(self) -> bool:
        return bool(self._namespace.call(self._ask))

    def truth(self) -> dict[str, int]:
        """How often it answered what: prompt, wrong, joined, unknown, registration, other, abandoned."""
        text = self._namespace.call(self._ask)
        if not text:
            raise LabError(f"the conference node does not answer\n{self.tail()}")
        truth: dict[str, int] = json.loads(text)
        return truth

    def _ask(self) -> bytes:
        try:
            with Connection(self._address, PORT) as connection:
                answer = connection.ask("GET", "/_truth")
        except OSError:
            return b""
        # With --chunked the JSON is between the chunk's length and the last chunk.
        return b"" if answer is None else answer.body[answer.body.find(b"{") : answer.body.rfind(b"}") + 1]
