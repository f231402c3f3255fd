"""pinban-enforcer: assembles the agent of a reverse proxy."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from enforcer.agent import Agent
from enforcer.firewall import (
    Choice,
    DryRunFirewall,
    Firewall,
    IptablesFirewall,
    NftablesFirewall,
    NftWatch,
    decide,
    hand_over,
    iptables_traces,
    load_modules,
    look,
    nftables_traces,
)
from enforcer.follower import Follower
from enforcer.maintenance import Maintenance
from enforcer.probes import Probes
from enforcer.service import Service
from enforcer.witness import Witness
from shared import logs
from shared.errors import PinbanError
from shared.exempt import Exemptions, names_of
from shared.host import CAP_NET_ADMIN, CAP_NET_RAW, keep_only
from shared.printable import printable
from shared.settings import Settings, load
from shared.store import check_redis

#: A thread that began no new turn for this long is stuck, s; waiting for the lock of the tables takes up to 40 s.
STUCK_S = 90.0

_log = logging.getLogger("pinban.enforcer")


def main(arguments: list[str] | None = None) -> int:
    """Run the agent until SIGTERM or SIGINT; protection then stays in place. With --disarm remove all of it."""
    parser = argparse.ArgumentParser(prog="pinban-enforcer", description="Drop banned addresses in the firewall.")
    parser.add_argument("-c", "--config", metavar="FILE", help="settings, a TOML file")
    parser.add_argument("--disarm", action="store_true", help="remove every rule and set of pinban, then end")
    parser.add_argument("--alive", metavar="FILE", type=Path,
                        help="write this file every second, from the first reading of the ledger on")  # fmt: skip
    options = parser.parse_args(arguments)
    logs.setup()
    try:
        settings = load(options.config)
        choice = choose(settings)
        if choice.backend == "iptables":
            load_modules()
        keep_only((CAP_NET_ADMIN, CAP_NET_RAW))
        for variable in [name for name in os.environ if name.startswith("PINBAN_")]:
            del os.environ[variable]  # one may hold a password, and the programs that we start need none
        if options.disarm:
            disarm(settings, choice.backend)
            return 0
        check_redis(settings)
        _log.info("backend %s: %s", choice.backend, choice.why)
        return run(settings, open_firewall(settings, choice.backend), choice.why, options.alive)
    except PinbanError as error:
        print(printable(f"pinban-enforcer: {error}"), file=sys.stderr)
        return 2


def run(settings: Settings, firewall: Firewall, why: str, alive: Path | None = None) -> int:
    """Arm the firewall, follow the ledger, end at a signal. FirewallError when the firewall cannot be armed.

    `why` says why this backend. `alive` is written every second while the kernel answers, once it holds a ledger; its
    content is the id of the network namespace. A health check looks at its age, and an nginx in a new namespace can
    wait for it. Redis may be away.
    """
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before any thread, so that they wait for us alone
    service = Service()
    names = names_of(settings)
    names.start()
    exempt = Exemptions(settings, names)
    witness = Witness(settings)
    cut = _no_matter if firewall.name == "dry-run" else witness.cut
    agent = Agent(firewall, exempt, exempt.learn, witness.ask, cut)
    agent.arm()
    replace_others(settings, firewall)
    watch = NftWatch(firewall, agent.check_wanted.set) if isinstance(firewall, NftablesFirewall) else None
    follower = Follower(settings, agent)
    probes = Probes(settings)
    maintenance = Maintenance(settings, agent, follower, firewall.name, why, probes, witness, alive)
    _log.info("armed with %s: chains %s, ports %s; node %s", firewall.name, ", ".join(settings.enforcer.chains),
              settings.enforcer.ports, settings.enforcer.node)  # fmt: skip
    witness.start()
    follower.start()
    maintenance.start()
    if watch:
        watch.start()
    probes.start()
    service.tell("armed; reads the ledger", "READY=1")
    asked = threading.Event()
    threading.Thread(target=_await, args=(signals, asked), name="signals", daemon=True).start()
    while not asked.wait(service.every_s):
        well = all(
            thread.is_alive() and time.monotonic() - thread.moved_at < STUCK_S for thread in (follower, maintenance)
        )
        service.tell(follower.trouble or f"follows the ledger, revision {agent.applied[1]}", *["WATCHDOG=1"] * well)
    service.tell("stops; protection stays in place", "STOPPING=1")
    probes.stop()
    witness.stop()
    follower.stop()
    maintenance.stop()
    follower.join(3.0)
    maintenance.join(3.0)
    firewall.close()
    _log.info("stopped; %s", "protection stays in place" if firewall.name != "dry-run" else "nothing was enforced")
    return 0


def _no_matter(_: object) -> None:
    """Who only simulates ends nobody's connections."""


def _await(signals: set[signal.Signals], asked: threading.Event) -> None:
    """Set `asked` when one of the signals comes. Not with sigtimedwait: when its time ends while we are frozen
    (SIGSTOP), Python 3.11 returns a signal that nobody sent.
    """
    signal.sigwait(signals)
    asked.set()


def choose(settings: Settings) -> Choice:
    """The backend that the settings ask for; with `auto`, the one that suits this host."""
    enforcer = settings.enforcer
    if enforcer.backend != "auto":
        return Choice(enforcer.backend, "enforcer.backend says so")
    return decide(look(enforcer.prefix, enforcer.chains))


def open_firewall(settings: Settings, backend: str) -> Firewall:
    """The backend of this name with the settings; nothing is changed yet."""
    enforcer = settings.enforcer
    if backend == "dry-run":
        return DryRunFirewall()
    make = NftablesFirewall if backend == "nftables" else IptablesFirewall
    return make(
        prefix=enforcer.prefix,
        chains=enforcer.chains,
        ports=enforcer.ports,
        protocol=enforcer.protocol,
        action=enforcer.action,
        maxelem=enforcer.maxelem,
        maxelem_limit=enforcer.maxelem_limit,
    )


def with_traces(settings: Settings) -> list[str]:
    """The backends that have something in this kernel, whatever the settings say."""
    prefix = settings.enforcer.prefix
    return ["iptables"] * iptables_traces(prefix) + ["nftables"] * nftables_traces(prefix)


def replace_others(settings: Settings, firewall: Firewall) -> None:
    """Take over what another backend left, and remove it: not before `firewall` stands. Dry-run removes nothing."""
    if firewall.name == "dry-run":
        return
    for backend in with_traces(settings):
        if backend != firewall.name:
            taken = hand_over(open_firewall(settings, backend), firewall)
            _log.warning("removed what the backend %s had left, and took over %d bans of it", backend, taken)


def disarm(settings: Settings, backend: str) -> None:
    """Remove what any backend left, whatever the settings say now. The chosen one is asked in any case: its traces may
    not show all of it. Dry-run leaves nothing behind.
    """
    for each in sorted({backend, *with_traces(settings)} - {"dry-run"}):
        open_firewall(settings, each).disarm()
    _log.info("disarmed: no rule and no set of pinban is left")


if __name__ == "__main__":
    sys.exit(main())
