"""enforcer.xtables runs iptc, and iptc crashes, hangs and prints: none of this may harm the agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from enforcer.agent import Agent
from enforcer.firewall.iptables import backend as iptables
from enforcer.firewall.iptables.backend import IptablesFirewall
from enforcer.snapshot import Snapshot
from shared.addresses import Network
from shared.errors import FirewallError
from shared.events import Ban, Stamp, encode
from tests.netfilter.conftest import children, descriptors, inside, run, until

EPOCH = "0123456789abcdef"


@pytest.fixture
def firewall(rp: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IptablesFirewall]:
    """With a lock of its own, which a test can hold."""
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
    firewall = IptablesFirewall()
    yield firewall
    firewall.close()


@pytest.fixture
def agent(firewall: IptablesFirewall) -> Agent:
    agent = Agent(firewall, lambda _: "")
    agent.arm()
    agent.resync(Snapshot(Stamp(EPOCH, 1), ()))
    return agent


def ban(agent: Agent, rev: int) -> str:
    network = Network(f"203.0.113.{rev}")
    assert agent.follow([encode(Ban(Stamp(EPOCH, rev), network, 600_000, "pin"))])
    return network


def rules() -> str:
    return run("iptables-legacy", "-S") + run("ip6tables-legacy", "-S")


@pytest.mark.parametrize("blow", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGSTOP])
def test_bans_go_on_while_the_program_of_rules_crashes_or_hangs_and_a_check_mends(
    rp: str, agent: Agent, firewall: IptablesFirewall, blow: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    ban(agent, 2)
    standing, before, open_files = rules(), children(), descriptors()
    run("iptables-legacy", "-F")
    lock = os.environ["XTABLES_LOCKFILE"]
    monkeypatch.setattr(iptables, "RULES_S", 3)
    with subprocess.Popen(["flock", lock, "sh", "-c", "echo held; cat"], stdin=-1, stdout=-1) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        def check() -> str:
            with inside(rp), pytest.raises(FirewallError) as caught:
                agent.check()
            return str(caught.value)

        with ThreadPoolExecutor(1) as pool:
            checking = pool.submit(check)
            assert until(lambda: bool(waiting()))
            (child,) = waiting()
            os.kill(child, blow)
            network = ban(agent, 3)
            assert network in firewall.bans()
            told = checking.result(20)
        holder.stdin.close()
    assert "enforcer.xtables" in told
    assert "host's load" in told if blow == signal.SIGSTOP else f"status {-blow}" in told
    assert rules() != standing
    agent.check()
    assert rules() == standing
    assert agent.tally["repairs"] > 0
    assert children() == before
    assert descriptors() == open_files


def waiting() -> list[int]:
    """Our children that wait for a lock on a file (proc(5), locks: `->`)."""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return [pid for pid in children() if any("->" in line and str(pid) in line for line in lines)]


@pytest.mark.parametrize(
    "program",
    [
        "echo garbage",
        "echo '[]'",
        "echo 5",
        "echo '{}'",
        "printf '\\377\\376'",
        "head -c 3000000 /dev/zero",
        "echo words >&2; exit 3",
        "exit 0",
        "kill -SEGV $$",
    ],
)
def test_whatever_the_program_of_rules_says_is_an_answer_or_an_error_of_ours(
    agent: Agent, firewall: IptablesFirewall, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\ncat >/dev/null\n{program}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(FirewallError, match=r"enforcer\.xtables"):
        agent.check()
    assert ban(agent, 2) in firewall.bans()


LYING = """#!{python}
from enforcer.xtables import __main__ as program
program.prepare_import()
import iptc
iptc.Table.commit = lambda self: None
program.main()
"""


@pytest.mark.parametrize("verb", ["install", "disarm"])
def test_a_commit_that_does_nothing_is_an_error(
    firewall: IptablesFirewall, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What iptc says is not believed: the tables are read back."""
    firewall.install()
    standing = rules()
    if verb == "install":
        run("iptables-legacy", "-F")
    before = rules()
    lying = tmp_path / "lying"
    lying.write_text(LYING.format(python=sys.executable))
    lying.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(lying))
        with pytest.raises(FirewallError, match="did not stay; stop the other program"):
            getattr(firewall, verb)()
    assert rules() == before
    getattr(firewall, verb)()
    assert rules() == standing if verb == "install" else "pinban" not in rules()


def test_what_iptc_prints_is_not_taken_for_the_answer(rp: str) -> None:
    """A rule that iptc cannot read is in our chain: it is removed, and the reply is complete."""
    firewall = IptablesFirewall()
    firewall.install()
    run(
        "iptables-legacy",
        "-I",
        "pinban",
        "-m",
        "u32",
        "--u32",
        "0>>22&0x3C@8>>24=0",
        "-j",
        "LOG",
        "--log-prefix",
        "%s{}",
    )
    assert list(firewall.install()) == ["IPv4 rules"]
    assert list(firewall.install()) == []
    firewall.close()


def test_others_who_wait_for_the_lock_never_fail_because_of_us(rp: str) -> None:
    """Four writers at once, IPv4 and IPv6, while rules are made and removed all the time."""
    firewall, failures, over = IptablesFirewall(), list[str](), threading.Event()

    def write(number: int) -> None:
        with inside(rp):
            while not over.is_set():
                for tool in ("iptables-legacy", "ip6tables-legacy"):
                    rule = ["FORWARD", "-p", "tcp", "--dport", str(1_000 + number), "-j", "ACCEPT"]
                    for verb in ("-A", "-D"):
                        done = subprocess.run(
                            [tool, "-w", "30", verb, *rule], capture_output=True, text=True, check=False
                        )
                        failures.extend([done.stderr] if done.returncode else [])

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(5):
            firewall.install()
            firewall.disarm()
    finally:
        over.set()
        for writer in writers:
            writer.join()
    assert failures == []
    assert "pinban" not in rules()
