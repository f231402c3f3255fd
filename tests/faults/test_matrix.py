"""The fault matrix: every row has a test that proves it. A test says which by `@pytest.mark.row(number)`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.lab.process import ROOT

#: What is injected, by row.
MATRIX = {
    1: "Redis down at the start",
    2: "Redis comes back empty",
    3: "Redis frozen",
    4: "Redis slow",
    5: "Redis full",
    6: "failover",
    7: "scripts flushed",
    8: "wrong password or rights",
    9: "subscriber cut",
    10: "one RP partitioned",
    11: "worker of the receiver killed",
    12: "reload under load",
    13: "UDP overflow",
    14: "malformed, binary, empty or oversized datagrams",
    15: "unknown sender",
    16: "evasion by the log's size",
    17: "flood of bans",
    18: "ban of a friend or of oneself",
    19: "firewall flushed by an admin",
    20: "enforcer killed",
    21: "reboot",
    22: "others edit the firewall at the same time",
    23: "clocks wrong or set",
    24: "datagrams doubled or out of order",
    25: "two receivers get the same line",
    26: "disk or /dev/shm full",
    27: "garbage on the channel",
    28: "slow resolver, slow connect",
}

COLLECT = """
import json, pytest, sys

class Rows:
    def pytest_collection_finish(self, session):
        found = [(mark.args[0], item.nodeid) for item in session.items for mark in item.iter_markers("row")]
        sys.__stdout__.write("\\n" + json.dumps(found) + "\\n")

sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "tests"], plugins=[Rows()]))
"""


@pytest.fixture(scope="module")
def rows() -> dict[int, list[str]]:
    """Row -> the tests that prove it, as pytest itself collects them from the whole suite."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECT], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("[[")]
    found: dict[int, list[str]] = {}
    for row, test in json.loads(line):
        found.setdefault(row, []).append(test)
    return found


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: f"{row:02} {MATRIX[row]}")
def test_every_row_of_the_fault_matrix_has_a_test(rows: dict[int, list[str]], row: int) -> None:
    assert rows.get(row), f"no test has the mark row({row}): {MATRIX[row]}"


def test_no_test_claims_a_row_that_there_is_not(rows: dict[int, list[str]]) -> None:
    assert rows.keys() <= MATRIX.keys()
