"""pinban-enforcer: assembles the agent of a reverse proxy."""

from __future__ import annotations

import argparse
import logging
import signal
import sys

from enforcer.agent import Agent
from enforcer.firewall import Firewall
from enforcer.firewall.dry_run import DryRunFirewall
from enforcer.firewall.iptables import IptablesFirewall
from enforcer.follower import Follower
from enforcer.keeper import Keeper
from shared import logs
from shared.configuration import load
from shared.errors import PinbanError
from shared.settings import Settings
from shared.spared import Spared, names_of

_log = logging.getLogger("pinban.enforcer")


def main(arguments: list[str] | None = None) -> int:
    """Run the agent until SIGTERM or SIGINT; protection then stays in place. With --disarm remove all of it."""
    parser = argparse.ArgumentParser(prog="pinban-enforcer", description="Drop banned addresses in the firewall.")
    parser.add_argument("-c", "--config", metavar="FILE", help="settings, a TOML file")
    parser.add_argument("--disarm", action="store_true", help="remove every rule and set of pinban, then end")
    options = parser.parse_args(arguments)
    logs.setup()
    try:
        settings = load(options.config)
        firewall = open_firewall(settings)
        if options.disarm:
            firewall.disarm()
            _log.info("disarmed: no rule and no set of pinban is left")
            return 0
        return run(settings, firewall)
    except PinbanError as error:
        print(f"pinban-enforcer: {error}", file=sys.stderr)
        return 2


def run(settings: Settings, firewall: Firewall) -> int:
    """Arm the firewall, follow the ledger, end at a signal. FirewallError when the firewall cannot be armed."""
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before any thread, so that they wait for us alone
    names = names_of(settings)
    names.start()
    spared = Spared(settings, names)
    agent = Agent(firewall, spared, spared.learn)
    agent.arm()
    follower = Follower(settings, agent)
    keeper = Keeper(settings, agent, follower, firewall.name)
    _log.info("armed with %s: chains %s, ports %s; node %s", firewall.name, ", ".join(settings.enforcer.chains),
              settings.enforcer.ports, settings.enforcer.node)  # fmt: skip
    follower.start()
    keeper.start()
    signal.sigwait(signals)
    follower.stop()
    keeper.stop()
    follower.join(3.0)
    keeper.join(3.0)
    firewall.close()
    _log.info("stopped; %s", "protection stays in place" if firewall.name != "dry-run" else "nothing was enforced")
    return 0


def open_firewall(settings: Settings) -> Firewall:
    """The backend that the settings ask for; `auto` is iptables, the one that enforces."""
    enforcer = settings.enforcer
    if enforcer.backend == "dry-run":
        return DryRunFirewall()
    return IptablesFirewall(
        prefix=enforcer.prefix,
        chains=enforcer.chains,
        ports=enforcer.ports,
        protocol=enforcer.protocol,
        action=enforcer.action,
        maxelem=enforcer.maxelem,
        maxelem_limit=enforcer.maxelem_limit,
    )


if __name__ == "__main__":
    sys.exit(main())
