"""What log lines mean, as `pinban explain` tells it. No Redis, no terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from receiver.classes import RULES, Classifier
from shared.settings import Settings


def explained(lines: Iterable[bytes], settings: Settings) -> Iterator[dict[str, Any]]:
    """One value per line, in order: class, address (the network that would be counted), alias and rule, or None."""
    classifier = Classifier(settings.receiver, settings.ipv6_prefix)
    for line in lines:
        found = classifier.classify(line)
        yield {
            "class": str(found.meaning),
            "address": found.network,
            "alias": found.alias,
            "rule": RULES.get(found.meaning),
        }


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """How many lines of each class, the most frequent first."""
    counts = Counter(row["class"] for row in rows)
    return f"{len(rows)} lines: " + ", ".join(f"{count} {name}" for name, count in counts.most_common())
