"""Who did it by hand: the history names somebody in every case."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ASK = "import os; from pinban.deployment.user import whoami; os.setuid({}); print(whoami())"


def asked(environment: dict[str, str], uid: int = 0) -> str:
    command = [sys.executable, "-c", ASK.format(uid)]
    env = {"PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip().partition("@")[0]


def test_the_person_behind_sudo_is_named_and_else_the_user() -> None:
    assert asked({"SUDO_USER": "alice", "LOGNAME": "root"}) == "alice"
    assert asked({"LOGNAME": "bob"}) == "bob"


def test_a_user_without_a_name_is_a_number() -> None:
    assert asked({}, 54_321) == "uid 54321"
