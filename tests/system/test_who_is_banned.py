"""Who is banned and who is allowed, in the lab; tests/system/test_innocents.py has who does nothing wrong."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.lab.clients import guess
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import (
    any_drops,
    await_ban,
    guesses,
    ledger,
    new_source,
    number,
    operate,
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rps=2) as lab:
        yield lab


def test_twenty_colleagues_with_one_dead_link_are_one_failure_and_ten_dead_links_are_a_ban(lab: Lab) -> None:
    source = new_source(lab, 113)

    def follow(links: list[str]) -> list[int]:
        answers = [guess(lab.addresses()[n % 2], None, link, source=source) for n, link in enumerate(links)]
        return [answer.status if answer else 0 for answer in answers]

    before = number(lab.redis, "rx1", "unknown_alias")
    assert lab.attacker.namespace.call(lambda: follow(["gone", "Gone"] * 10)) == [404] * 20
    wait_until(lambda: number(lab.redis, "rx1", "unknown_alias") == before + 20, "the receiver has seen them all")
    wait_until(lambda: unknown(lab, source) == 1, "one failure is counted")
    assert lab.attacker.namespace.call(lambda: follow([f"gone{n}" for n in range(8)])) == [404] * 8
    wait_until(lambda: unknown(lab, source) == 9, "and eight more")
    assert source not in ledger(lab.redis)
    lab.attacker.namespace.call(lambda: follow(["gone9"]))
    await_ban(lab, source)


def unknown(lab: Lab, source: str) -> int:
    """How many unknown aliases an address has tried."""
    with lab.redis.client() as client:
        return int(client.get(f"pinban:count:{{{source}}}:scan") or 0)


def test_an_allowed_address_is_let_in_at_once_and_never_banned_again(lab: Lab) -> None:
    source = new_source(lab, 112)
    guesses(lab, source, range(5))
    await_ban(lab, source)
    assert (
        operate(lab, "allow", source, "--note", "the branch office").stdout == f"{source} is allowed; bans lifted: 1\n"
    )
    wait_until(lambda: not any_drops(lab, source), "every kernel lets it in")
    before = number(lab.redis, "rx1", "ignored")
    wait_until(partial(is_ignored_once_more, lab, source, before), "the receiver ignores it")
    assert None not in guesses(lab, source, range(10))
    assert source not in ledger(lab.redis)
    refused = operate(lab, "ban", source)
    assert (refused.returncode, "the allow-list has it" in refused.stderr) == (1, True)
    assert operate(lab, "allow", source, "--remove").returncode == 0
    wait_until(lambda: guesses(lab, source, range(1), timeout=0.25) == [None], "it is banned again")


def is_ignored_once_more(lab: Lab, source: str, before: int) -> bool:
    """Whether the receiver ignored anything since then; has the address ask for a prompt, which is no wrong PIN."""
    lab.attacker.namespace.call(partial(guess, lab.addresses()[0], None, source=source))
    return number(lab.redis, "rx1", "ignored") > before
