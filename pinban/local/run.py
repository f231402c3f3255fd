"""`pinban run`: store, receiver and enforcer on this host, in the foreground. Assembles; the daemons do the work."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from contextlib import ExitStack
from pathlib import Path

from pinban.local.embedded import EmbeddedStore
from pinban.local.processes import start, stop
from shared import logs
from shared.errors import PinbanError
from shared.printable import printable
from shared.settings import Settings, load

#: Bits in CapEff, proc(5): the rights that changing the firewall needs.
_CAP_NET_ADMIN, _CAP_NET_RAW = 1 << 12, 1 << 13

_log = logging.getLogger("pinban.run")


def run_all(config: str | None) -> int:
    """Run until Ctrl-C, SIGTERM or the end of a daemon; returns the exit code. PinbanError when it cannot start."""
    logs.setup()
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    settings = load(config)
    directory = _state_directory(settings)
    with ExitStack() as stack:
        _lock(directory, stack)
        environment = {}
        if "redis.url" not in _named(config):
            store = EmbeddedStore(directory)
            stack.callback(stop, store.process, 10.0)
            environment["PINBAN_REDIS_URL"] = store.url
            _log.info("embedded store on %s, its data in the same folder", store.url)
        if settings.enforcer.backend != "dry-run" and not may_program_firewall():
            _log.warning("without root nothing is dropped: bans are recorded and shown, the firewall stays as it is")
            environment["PINBAN_ENFORCER_BACKEND"] = "dry-run"
        arguments = ["-c", config] if config else []
        daemons: dict[str, subprocess.Popen[bytes]] = {}
        for name, patience_s in (("pinban-enforcer", 10.0), ("pinban-receiver", 20.0)):
            daemons[name] = start([_program(name), *arguments], environment)
            stack.callback(stop, daemons[name], patience_s)
        told = greeting(settings, config, environment, write_nginx_lines(settings, directory))
        print(printable(told, breaks=True), flush=True)
        return _watch(daemons, signals)


def may_program_firewall() -> bool:
    """Whether this process has CAP_NET_ADMIN and CAP_NET_RAW."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            needed = _CAP_NET_ADMIN | _CAP_NET_RAW
            return int(line.split()[1], 16) & needed == needed
    return False


def greeting(settings: Settings, config: str | None, environment: dict[str, str], nginx_lines: Path) -> str:
    """The next steps for the user: the lines for nginx, and how to look at bans and counters."""
    command = f"{_program('pinban')} -c {config}" if config else _program("pinban")
    if url := environment.get("PINBAN_REDIS_URL"):
        command = f"PINBAN_REDIS_URL={url} {command}"
    return f"""
In nginx's http block, on this host (it sends its log to {_syslog_target(settings.receiver.listen[0])}):

    include {nginx_lines};

and in the location that proxies /api/:

    proxy_ignore_client_abort on;
    proxy_set_header pin $http_pin;
    proxy_set_header Accept-Encoding "";

Look at it from another terminal:

    {command} status
    {command} bans
    {command} counters

Each failure and each ban is shown here as it happens. Ctrl-C stops it.
"""


def write_nginx_lines(settings: Settings, directory: Path) -> Path:
    """nginx/pinban.conf with this receiver's address in it, ready to be included; where it is."""
    path = directory / "pinban.conf"
    target = _syslog_target(settings.receiver.listen[0])
    path.write_text(snippet().read_text(encoding="utf-8").replace("server=127.0.0.1:5514", f"server={target}"))
    return path


def snippet() -> Path:
    """Where nginx/pinban.conf lies: in the checkout, or where the package was installed."""
    here = Path(__file__).resolve().parents[2] / "nginx" / "pinban.conf"
    return here if here.exists() else Path(sysconfig.get_path("data")) / "share" / "pinban" / "pinban.conf"


def _watch(daemons: dict[str, subprocess.Popen[bytes]], signals: set[signal.Signals]) -> int:
    while True:
        caught = signal.sigwait(signals)
        if caught != signal.SIGCHLD:
            _log.info("stopping; what is banned stays banned in the firewall until it expires or "
                      "pinban-enforcer --disarm removes it")  # fmt: skip
            return 0
        for name, process in daemons.items():
            if process.poll() is not None:
                _log.error("%s ended with code %s; its last lines say why", name, process.returncode)
                return 1


def _named(config: str | None) -> set[str]:
    """Which of the settings that decide what runs here were set."""
    return {"redis.url"} if load(config).redis.url != Settings().redis.url else set()


def _state_directory(settings: Settings) -> Path:
    if settings.state_dir != Settings().state_dir or os.geteuid() == 0:
        directory = Path(settings.state_dir)
    else:
        directory = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "pinban"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise PinbanError(f"state_dir: {directory} cannot be made ({error.strerror}); choose another") from error
    return directory


def _lock(directory: Path, stack: ExitStack) -> None:
    try:
        file = stack.enter_context((directory / "lock").open("w"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PinbanError(f"pinban run is running already with its state in {directory}; stop it first") from error
    except OSError as error:
        raise PinbanError(f"state_dir: {directory} cannot be written ({error.strerror}); choose another") from error


def _program(name: str) -> str:
    """Our own commands: beside the interpreter that runs us, else on the path."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def _syslog_target(listen: str) -> str:
    """An entry of receiver.listen as nginx writes it after server=."""
    return listen if listen.startswith("unix:") else listen.removeprefix("udp:").replace("0.0.0.0", "127.0.0.1")  # noqa: S104
