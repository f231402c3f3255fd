"""`make demo`: shows a guesser, the ban and the unban with real parts in network namespaces, in five seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.lab.clients import ALIAS, PIN, Bystander, Visits, guess
from tests.lab.guesser import Guesser
from tests.lab.http1 import Answer
from tests.lab.lab import Lab, ReverseProxy
from tests.lab.process import LabError, wait_until

#: How long a client waits before it calls an answer missing, s.
STARVED_S = 1.0


class Demo:
    """The steps, in order; each prints what it sees, with the time since the start."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
        self._began = time.monotonic()
        self._attacker = lab.attacker.outside

    def run(self) -> bool:
        """Show all steps; returns whether everything went as promised."""
        self._introduce()
        bystander = Bystander(self._lab.addresses(), interval=0.25)
        visits = self._lab.bystander.namespace.start(bystander.run)
        try:
            acts = [self._guess_slowly(), self._starve(), self._operate(), self._let_in_again(), self._attack()]
        finally:
            bystander.stop()
        return all(acts) and self._ask_bystander(visits.result())

    def _introduce(self) -> None:
        lab = self._lab
        self._title("The site")
        self._say(f"core: Redis, receiver, a stand-in for the conference node ({lab.core.inside})")
        for rp in lab.rps:
            self._say(f"{rp.host.name}: nginx and enforcer, {rp.host.outside} outside, {rp.host.inside} inside")
        self._say(f"attacker {self._attacker}, bystander {lab.bystander.outside}; room {ALIAS} with a PIN of 4 digits")

    def _guess_slowly(self) -> bool:
        self._title("Five guesses, each through another proxy than the one before")
        key = f"pinban:count:{{{self._attacker}}}:pin"
        self._say(f"(counted is what `redis-cli GET {key}` says)")
        for number in range(1, 6):
            rp = self._lab.rps[number % len(self._lab.rps)]
            answer = self._guess(rp, f"{number:06}")
            answered = time.monotonic()
            if answer is None:
                self._say(f"{rp.host.name} did not answer guess {number}", "red")
                return False
            said = f"PIN {number:06} at {rp.host.name}: {answer.status} {answer.body.decode()}"
            self._say(f"{said}  counted {self._counted(key, number)}" if number < 5 else f"{said}  the fifth")
        for rp in self._lab.rps:
            wait_until(partial(self._dropped, rp), f"{rp.host.name} drops {self._attacker}")
        late_ms = (time.monotonic() - answered) * 1_000
        self._say(f"dropped in the kernel of every proxy, seen {late_ms:.0f} ms after the answer", "green")
        return True

    def _starve(self) -> bool:
        self._title("The attacker tries again; somebody else joins")
        for rp in self._lab.rps:
            answer = self._guess(rp, "000006", timeout=STARVED_S)
            if answer is not None:
                self._say(f"{rp.host.name} answered {answer.status}", "red")
                return False
            self._say(f"attacker to {rp.host.name}: no answer in {STARVED_S:.0f} s", "green")
        address = self._lab.rps[0].host.outside
        answer = self._lab.bystander.namespace.call(partial(guess, address, PIN))
        self._say(f"bystander to {self._lab.rps[0].host.name}: {answer.status if answer else 'no answer'}")
        return answer is not None and answer.status == 200

    def _operate(self) -> bool:
        self._title("What the operator sees")
        return self._pinban("status") and self._pinban("bans")

    def _let_in_again(self) -> bool:
        self._title("Unbanned, and in with the right PIN")
        if not self._pinban("unban", self._attacker, "--why", "it was a colleague"):
            return False
        for rp in self._lab.rps:
            wait_until(partial(self._let_in, rp), f"{rp.host.name} lets {self._attacker} in")
        answer = self._guess(self._lab.rps[-1], PIN)
        self._say(f"right PIN at {self._lab.rps[-1].host.name}: {answer.status if answer else 'no answer'}", "green")
        return answer is not None and answer.status == 200

    def _attack(self) -> bool:
        self._title("The same at full speed: eight connections to each proxy")
        guesser = Guesser(self._lab.addresses(), connections=8, starved_after=STARVED_S)
        loot = self._lab.attacker.namespace.call(guesser.run)
        lasted_ms = (loot.last_answer - loot.began) * 1_000
        self._say(f"{loot.total} guesses were answered, the last after {lasted_ms:.0f} ms; then nothing more", "green")
        return loot.starved

    def _ask_bystander(self, visits: Visits) -> bool:
        self._title("The bystander, all along")
        slowest_ms = max(visits.latencies, default=0) * 1_000
        self._say(
            f"{visits.joins} joins, {len(visits.failures)} failures, the slowest join {slowest_ms:.0f} ms",
            "red" if visits.failures else "green",
        )
        return visits.joins > 0 and not visits.failures

    def _dropped(self, rp: ReverseProxy) -> bool:
        return rp.host.namespace.run(["ipset", "test", "pinban4", self._attacker], check=False).returncode == 0

    def _let_in(self, rp: ReverseProxy) -> bool:
        return not self._dropped(rp)

    def _guess(self, rp: ReverseProxy, pin: str, timeout: float = 2.0) -> Answer | None:
        return self._lab.attacker.namespace.call(partial(guess, rp.host.outside, pin, timeout=timeout))

    def _counted(self, key: str, expected: int) -> str:
        with self._lab.redis.client() as redis:
            wait_until(lambda: int(redis.get(key) or 0) == expected, f"{key} is {expected}")
            return f"{expected}, TTL {redis.ttl(key)} s"

    def _pinban(self, *words: str) -> bool:
        self._say(f"$ pinban {' '.join(words)}", "bold")
        command = [str(Path(sys.executable).with_name("pinban")), *words]
        url = f"unix://{self._lab.directory}/redis/redis.sock"
        done = subprocess.run(
            command, env={**os.environ, "PINBAN_REDIS_URL": url}, capture_output=True, text=True, check=False
        )
        for line in (done.stdout + done.stderr).splitlines():
            self._console.print(f"           {line.rstrip()}", markup=False)
        return done.returncode == 0

    def _title(self, text: str) -> None:
        self._console.print(f"\n[bold cyan]{text}[/]")

    def _say(self, text: str, style: str = "") -> None:
        elapsed = f"{time.monotonic() - self._began:7.3f} s"
        self._console.print(f"[dim]{elapsed}[/]  ", end="")
        self._console.print(text, style=style, markup=False)


def main() -> int:
    """Run the demonstration; 0 when everything went as promised."""
    try:
        with Lab(rps=2) as lab:
            return 0 if Demo(lab).run() else 1
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("demo: network namespaces need root; run it with sudo")
    sys.exit(main())
