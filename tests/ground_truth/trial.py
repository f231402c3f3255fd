"""One trial: a site, so many requests of a seed, the comparison."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

from tests.ground_truth.comparison import Comparison, Outcome, Sent
from tests.ground_truth.fronts import WAITING, Front
from tests.ground_truth.generator import sessions
from tests.ground_truth.requests import Session
from tests.ground_truth.site import Site
from tests.ground_truth.truth import Record
from tests.ground_truth.wire import play

#: How many sessions run at the same time.
CLIENTS = 4

#: Requests sent, compared and forgotten in one round, so that a long trial needs no more memory than a short one.
ROUND = 10_000


def rounds(seed: int, requests: int, *, fronts: Sequence[Front] = WAITING) -> Iterator[Outcome]:
    """Try so many requests, in rounds with a site and a seed of their own: seed, seed + 1, ...

    Each session goes through one of the fronts. Where one does not wait for the node, a third of the clients hangs up,
    and the nodes answer slowly, so that most of these clients are gone before the answer.
    """
    for number, start in enumerate(range(0, requests, ROUND)):
        size = min(ROUND, requests - start)
        if all(front.waits for front in fronts):
            yield _try([*sessions(seed + number, size, fronts)], Site(fronts, delay_ms=0))
        else:
            yield _try([*sessions(seed + number, size, fronts, leaving=0.3)], Site(fronts, delay_ms=20))


def _try(played: list[Session], site: Site) -> Outcome:
    with site:
        shares = [islice(played, first, None, CLIENTS) for first in range(CLIENTS)]
        clients = [site.namespace.start(partial(play, share)) for share in shares]
        for client in clients:
            client.result()
        site.settle()
        records = [Record.of(line) for line in site.records() if line["id"]]
        sent = {request.marker: Sent(request, each.client) for each in played for request in each.requests}
        return Comparison(sent, records, site.pinban.taken, site.texts.taken, joins=_joins()).run()


def _joins() -> bool:
    """Whether this nginx logs all headers of one name, joined: changes with nginx 1.23.0."""
    told = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    version = re.search(r"nginx/(\d+)\.(\d+)", told)
    assert version, told
    return (int(version[1]), int(version[2])) >= (1, 23)
