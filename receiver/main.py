"""pinban-receiver: assembles the receiver and hands it to gunicorn."""

from __future__ import annotations

import argparse
import logging
import sys

from gunicorn.app.base import BaseApplication

from receiver.inherited import Inherited, open_inherited
from receiver.lines import Rulebook
from receiver.worker import Health, IngestWorker
from shared import logs
from shared.errors import SettingsError
from shared.host import keep_only
from shared.settings import Settings, load
from shared.store import check_secrets

#: Threads that answer HTTP in each worker; a slow client occupies one for as long as it likes.
_HTTP_THREADS = 4

_log = logging.getLogger("pinban.receiver")


class ReceiverApplication(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn with our settings instead of its own."""

    def __init__(self, inherited: Inherited, path: str | None) -> None:
        self.inherited = inherited
        self._path = path
        self._loaded = False
        self.health = Health()
        super().__init__()

    @property
    def maintenance(self) -> object:
        """Set by the worker, read by the health check."""
        return self.health.maintenance

    @maintenance.setter
    def maintenance(self, maintenance: object) -> None:
        self.health.maintenance = maintenance  # type: ignore[assignment]

    def load(self) -> Health:
        """The WSGI application. Needs nothing that can be missing: a worker that cannot boot ends the service."""
        return self.health

    def load_config(self) -> None:
        """gunicorn's settings, at the start and at each SIGHUP; a bad file then changes nothing."""
        if self._loaded:
            self._reload()
        self._loaded = True
        receiver = self.inherited.settings.receiver
        for key, value in {
            "bind": [receiver.http],
            "workers": receiver.workers,
            "threads": _HTTP_THREADS,
            "worker_class": IngestWorker,
            "worker_tmp_dir": "/dev/shm",  # noqa: S108  heartbeats must not wait for a disk
            "timeout": 30,
            "graceful_timeout": 10,
            "keepalive": 2,
            "control_socket_disable": True,
            "proc_name": "pinban-receiver",
            "loglevel": "warning",
        }.items():
            self.cfg.set(key, value)

    def _reload(self) -> None:
        before = self.inherited.settings
        try:
            after = load(self._path)
            check_secrets(after)
            rulebook = Rulebook(after)
        except SettingsError as error:
            _log.error("%s; the settings stay as they were", error)
            return
        if (after.receiver.listen, after.receiver.receive_buffer) != (
            before.receiver.listen,
            before.receiver.receive_buffer,
        ):
            _log.warning("receiver.listen and receiver.receive_buffer change at a restart, not at a reload")
        self.inherited.settings, self.inherited.rulebook = after, rulebook
        _log.info("settings reloaded")


def main(arguments: list[str] | None = None) -> int:
    """Run the receiver until SIGTERM. SIGHUP reloads the settings, losing nothing."""
    parser = argparse.ArgumentParser(prog="pinban-receiver", description="Count failed PIN entries from nginx's log.")
    parser.add_argument("-c", "--config", metavar="FILE", help="settings, a TOML file")
    options = parser.parse_args(arguments)
    logs.setup()
    try:
        settings = load(options.config)
        check_secrets(settings)
        inherited = open_inherited(settings)
    except SettingsError as error:
        print(f"pinban-receiver: {error}", file=sys.stderr)
        return 2
    keep_only(())  # the sockets are ours already
    announce(settings)
    ReceiverApplication(inherited, options.config).run()
    return 0


def announce(settings: Settings) -> None:
    """Say where we listen."""
    receiver = settings.receiver
    _log.info("listening on %s for %s; health on http://%s", ", ".join(receiver.listen), ", ".join(receiver.senders),
              receiver.http)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
