"""What log lines mean, as `pinban explain` tells it. No Redis, no terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from receiver.lines import Rulebook
from shared.settings import Settings


def explained(lines: Iterable[bytes], settings: Settings) -> Iterator[dict[str, Any]]:
    """One value per line, in order: class, address (the network that would be counted), alias and rule, or None."""
    rulebook = Rulebook(settings)
    for raw in lines:
        reading = rulebook.read(raw)
        line = reading.line
        yield {"class": str(line.meaning), "address": line.network, "alias": line.alias, "rule": reading.rule}


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """How many lines of each class, the most frequent first."""
    counts = Counter(row["class"] for row in rows)
    return f"{len(rows)} lines: " + ", ".join(f"{count} {name}" for name, count in counts.most_common())
