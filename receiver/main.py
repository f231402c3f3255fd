"""pinban-receiver: assembles the receiver and hands it to gunicorn."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger as GunicornLogger

from receiver.health import Health
from receiver.inherited import Inherited, open_inherited
from receiver.lines import Rulebook
from receiver.sockets import check_free
from receiver.standby import Standby
from receiver.worker import ReceiverWorker
from shared import logs
from shared.errors import SettingsError
from shared.host import keep_only
from shared.printable import printable
from shared.settings import Settings, load
from shared.store import check_redis

#: Threads that answer HTTP in each worker; a slow client occupies one for as long as it likes.
_HTTP_THREADS = 4

#: Where gunicorn keeps the file that shows that a worker lives: in memory, so that no disk delays it.
_MEMORY = "/dev/shm"  # noqa: S108

_log = logging.getLogger("pinban.receiver")


class ReceiverArbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's, which also looks after the standby."""

    def manage_workers(self) -> None:
        """Called at the start, when a child ends, and each second."""
        self.app.standby.ensure()
        super().manage_workers()

    def stop(self, graceful: bool = True) -> None:
        """End all; the standby first, or it would read when the workers do no more."""
        self.app.standby.end()
        super().stop(graceful)


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own lines, written as ours are."""

    def setup(self, cfg: Config) -> None:
        """Set gunicorn's handlers up."""
        super().setup(cfg)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(logs.Formatter())


class ReceiverApplication(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn with our settings instead of its own."""

    def __init__(self, inherited: Inherited, path: str | None) -> None:
        self.inherited = inherited
        self.health = Health()
        self.standby = Standby(inherited.sockets, inherited.spool)
        self._path = path
        self._loaded = False
        super().__init__()

    def run(self) -> None:
        """Until a signal ends it. Does not return."""
        ReceiverArbiter(self).run()

    def load(self) -> Health:
        """The WSGI application. It must always load: a worker that cannot boot ends the service."""
        return self.health

    def load_config(self) -> None:
        """Set gunicorn's settings, at the start and at each SIGHUP; at a SIGHUP a bad file changes nothing."""
        if self._loaded:
            self._reload()
        self._loaded = True
        receiver = self.inherited.settings.receiver
        for key, value in {
            "bind": [receiver.http],
            "workers": receiver.workers,
            "threads": _HTTP_THREADS,
            "worker_class": ReceiverWorker,
            "worker_tmp_dir": _MEMORY if Path(_MEMORY).is_dir() else None,
            "timeout": 30,
            "graceful_timeout": 10,
            "keepalive": 2,
            "control_socket_disable": True,
            "proc_name": "pinban-receiver",
            "loglevel": "warning",
            "logger_class": Logger,
        }.items():
            self.cfg.set(key, value)

    def _reload(self) -> None:
        before = self.inherited.settings
        try:
            after = load(self._path)
            check_redis(after)
            rulebook = Rulebook(after)
            _check_http(before.receiver.http, after.receiver.http)
        except SettingsError as error:
            _log.error("%s; the settings stay as they were", error)
            return
        if (after.receiver.listen, after.receiver.receive_buffer) != (
            before.receiver.listen,
            before.receiver.receive_buffer,
        ):
            _log.warning("receiver.listen and receiver.receive_buffer stay as they were; a restart changes them")
        self.inherited.settings, self.inherited.rulebook = after, rulebook
        _log.info("settings reloaded")


def _check_http(before: str, after: str) -> None:
    """SettingsError when gunicorn could not listen there after a reload: it would end after some seconds of trying."""
    if before == after:
        return
    if before.rpartition(":")[2] == after.rpartition(":")[2]:
        raise SettingsError(
            f"receiver.http = {after!r}: another address on the same port takes a restart, not a reload"
        )
    check_free(after)


def main(arguments: list[str] | None = None) -> int:
    """Run the receiver until SIGTERM. SIGHUP reloads the settings and loses nothing."""
    parser = argparse.ArgumentParser(prog="pinban-receiver", description="Count failed PIN entries from nginx's log.")
    parser.add_argument("-c", "--config", metavar="FILE", help="settings, a TOML file")
    options = parser.parse_args(arguments)
    logs.setup()
    try:
        settings = load(options.config)
        check_redis(settings)
        inherited = open_inherited(settings)
        keep_only(())  # the sockets are ours already
        check_free(settings.receiver.http)  # now, because gunicorn will bind it without rights of root too
    except SettingsError as error:
        print(printable(f"pinban-receiver: {error}"), file=sys.stderr)
        return 2
    announce(settings)
    ReceiverApplication(inherited, options.config).run()
    return 0


def announce(settings: Settings) -> None:
    """Log where the receiver listens."""
    receiver = settings.receiver
    _log.info("listening on %s for %s; health on http://%s", ", ".join(receiver.listen), ", ".join(receiver.senders),
              receiver.http)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
