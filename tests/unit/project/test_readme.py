"""The README's table of settings says what the settings say.

`python -m tests.unit.project.test_readme` prints the table to paste.
"""

from __future__ import annotations

import json
import re

from shared.durations import Milliseconds
from shared.settings.reading import default_of, described_keys
from tests.lab.process import ROOT

HEAD = ["| setting | default | meaning |", "|---|---|---|"]


def readme_table() -> str:
    """The table under `## Settings`, one row for each key; a row's meaning may go on after the description."""
    rows = [f"| `{key}` | `{default_text(key)}` | {meaning} |" for key, meaning in described_keys()]
    return "\n".join([*HEAD, *rows])


def default_text(key: str) -> str:
    value = default_of(key)
    return json.dumps(str(value) if isinstance(value, Milliseconds) else value)


def settings_section() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    [section] = [each for each in sections if each.startswith("Settings\n")]
    return section.splitlines()


def test_the_readme_has_a_row_for_every_setting_in_order_and_no_other() -> None:
    rows = [line for line in settings_section() if line.startswith("|")]
    expected = readme_table().splitlines()
    assert rows[0] == expected[0]
    assert [row.split("|")[1:3] for row in rows[2:]] == [row.split("|")[1:3] for row in expected[2:]]
    for row, begins in zip(rows[2:], expected[2:], strict=True):
        assert row.startswith(begins.removesuffix(" |"))


def test_no_description_breaks_the_table() -> None:
    assert not [key for key, meaning in described_keys() if "|" in meaning or "\n" in meaning]


if __name__ == "__main__":
    print(readme_table())
