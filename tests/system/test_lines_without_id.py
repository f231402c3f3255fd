"""nginx tells two receivers lines without a request id: each guess is one failure, and guesses alike are several."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.lab.clients import pin_header, token_target
from tests.lab.daemons import COMMON, RECEIVER, Receiver, merge
from tests.lab.http1 import Connection
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import await_ban, counted, ledger, new_source, node, number
from tests.lab.wires import CORE

#: What each reverse proxy writes: the original appliance's line, and nginx's own.
FORMATS = {
    "rp1": """'$remote_addr - $remote_user [$time_local]  "$request" $status $body_bytes_sent "$http_referer" '
    '"$http_user_agent" "$upstream_addr" "$upstream_status" "$request_length"'""",
    "rp2": """'$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" '
    '"$http_user_agent"'""",
}

BOTH = "".join(
    f"access_log syslog:server={CORE}:{port},nohostname,facility={facility},tag=pinban plain;"
    for port, facility in ((5514, "local7"), (5515, "local6"))
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab(rps=2, server=BOTH)
    for name, fields in FORMATS.items():
        with (lab.directory / name / "pinban.conf").open("a") as snippet:
            snippet.write(f"log_format plain {fields};\n")
    own = {"receiver": {"node": "rx2", "listen": [f"udp:{CORE}:5515"], "http": "127.0.0.1:8518"}}
    told = merge(merge(RECEIVER, merge(COMMON, {"redis": {"url": lab.redis.url}})), own)
    second = Receiver(told, lab.directory / "rx2", lab.core.namespace)
    with lab:
        second.start()
        try:
            second.await_ready(lambda: bool(node(lab.redis, "rx2")))
            yield lab
        finally:
            second.stop()


def guess(lab: Lab, source: str, proxy: int, pins: list[str]) -> list[int]:
    """Guesses on one connection, as fast as they are answered; the statuses. Returns when all are counted twice."""
    before = [number(lab.redis, name, "counted") for name in ("rx1", "rx2")]

    def run() -> list[int]:
        with Connection(lab.addresses()[proxy], source=source) as connection:
            answers = [connection.ask("POST", token_target(), pin_header(pin)) for pin in pins]
            return [answer.status if answer else 0 for answer in answers]

    statuses = lab.attacker.namespace.call(run)
    for name, already in zip(("rx1", "rx2"), before, strict=True):
        wait_until(partial(has_counted, lab, name, already + len(pins)), f"{name} has counted them")
    return statuses


def has_counted(lab: Lab, name: str, failures: int) -> bool:
    return number(lab.redis, name, "counted") >= failures


@pytest.mark.parametrize("proxy", [0, 1], ids=["pexapp", "combined"])
def test_three_wrong_pins_told_to_two_receivers_are_three_and_the_fifth_is_a_ban(lab: Lab, proxy: int) -> None:
    source = new_source(lab, 131 + proxy)
    assert guess(lab, source, proxy, ["111111", "222222", "333333"]) == [403] * 3
    assert counted(lab.redis, source) == 3
    assert guess(lab, source, proxy, ["444444"]) == [403]
    assert counted(lab.redis, source) == 4
    assert source not in ledger(lab.redis)
    assert guess(lab, source, proxy, ["555555"]) == [403]
    await_ban(lab, source)


@pytest.mark.parametrize("proxy", [0, 1], ids=["pexapp", "combined"])
def test_guesses_alike_within_a_second_are_as_many(lab: Lab, proxy: int) -> None:
    source = new_source(lab, 141 + proxy)
    assert guess(lab, source, proxy, ["999999"] * 4) == [403] * 4
    assert counted(lab.redis, source) == 4
    assert guess(lab, source, proxy, ["999999"]) == [403]
    await_ban(lab, source)


def test_guesses_alike_through_several_proxies_are_as_many(lab: Lab) -> None:
    source = new_source(lab, 151)
    for turn in range(4):
        assert guess(lab, source, turn % 2, ["999999"]) == [403]
    assert counted(lab.redis, source) == 4
    assert source not in ledger(lab.redis)
