"""The README's tables of settings and of rules say what the code says.

`python -m tests.unit.project.test_readme` prints the table of settings to paste.
"""

from __future__ import annotations

import json
import re
from operator import attrgetter

from receiver.lines.classify import RULES, Class
from shared.durations import Milliseconds
from shared.settings.declared import declared
from shared.settings.schema import BUILT_IN, Rule, Settings
from tests.lab.process import ROOT

HEAD = ["| setting | default | meaning |", "|---|---|---|"]


def readme_table() -> str:
    """The table under `## Settings`, one row for each key; a row's meaning may go on after the description."""
    rows = [f"| `{key}` | `{default_text(key)}` | {field.description} |" for key, field in declared().items()]
    return "\n".join([*HEAD, *rows])


def default_text(key: str) -> str:
    value = attrgetter(key.removeprefix("rules.NAME."))(Rule() if key.startswith("rules.") else Settings())
    return json.dumps(str(value) if isinstance(value, Milliseconds) else value)


def rows_of(title: str) -> list[list[str]]:
    """The cells of the rows of the first table in the section, without its head."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [section] = [each for each in re.split(r"^## ", text, flags=re.MULTILINE) if each.startswith(f"{title}\n")]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def told_of(name: str) -> str:
    """What the README's table has to say of a built-in rule."""
    rule = BUILT_IN[name]
    told = {each: getattr(rule, each) for each in ("maxretry", "findtime", "bantime", "simulate", "levels")}
    assert rule == Rule(**told), f"rules.{name} has defaults that the table does not tell"
    assert [(level.ipv6, level.length) for level in rule.wider(ipv6=True)] == [(True, 56), (True, 48)]
    wider = ", ".join(str(level.maxretry) for level in rule.wider(ipv6=True))
    outcome = "simulated only" if rule.simulate else f"ban {rule.bantime}"
    return f"`{name}`: {rule.maxretry} in {rule.findtime} ({wider}), {outcome}"


def test_the_readme_has_a_row_for_every_setting_in_order_and_no_other() -> None:
    rows = rows_of("Settings")
    assert [row[:2] for row in rows] == [[f"`{key}`", f"`{default_text(key)}`"] for key in declared()]
    for row, field in zip(rows, declared().values(), strict=True):
        assert row[2].startswith(field.description)


def test_no_description_breaks_the_table() -> None:
    described = {key: field.description for key, field in declared().items()}
    assert not [key for key, text in described.items() if not text or "|" in text or "\n" in text]


def test_the_readme_tells_the_defaults_of_the_rule_that_counts_each_class() -> None:
    told = {name: row[2] for row in rows_of("What counts") for name in re.findall(r"`(\w+)`", row[0])}
    counted = {each.value: told_of(RULES[each]) for each in Class if each in RULES}
    assert {name: text for name, text in told.items() if not text.startswith("none")} == counted
    assert told.keys() == {each.value for each in Class}


if __name__ == "__main__":
    print(readme_table())
