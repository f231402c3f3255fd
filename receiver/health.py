"""The receiver's HTTP page: /healthz, alive; /readyz, able to count."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from receiver.maintenance import Maintenance

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class Health:
    """The WSGI application (PEP 3333). It opens no file and no connection, so it can always answer."""

    def __init__(self) -> None:
        self.maintenance: Maintenance | None = None  #: of this worker, once it runs

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        not_ready = self.maintenance.not_ready if self.maintenance else "starting"
        match environ.get("PATH_INFO"):
            case "/healthz":
                status, text = "200 OK", "alive"
            case "/readyz" if not not_ready:
                status, text = "200 OK", "ready"
            case "/readyz":
                status, text = "503 Service Unavailable", not_ready
            case _:
                status, text = "404 Not Found", "try /healthz or /readyz"
        body = text.encode() + b"\n"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
        return [body]
