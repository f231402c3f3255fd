"""`make demo` runs to its end."""

from __future__ import annotations

import subprocess
import sys

from tests.lab.process import ROOT


def test_the_demonstration_goes_as_promised() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab.demo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    acts = [line for line in done.stdout.splitlines() if line and line[0].isupper()]
    assert len(acts) == 7, acts
    assert "The bystander, all along" in acts
