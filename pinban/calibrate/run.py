"""`pinban calibrate`: old logs -> what their sizes of refusals probably mean. Puts the other files together.

files -> batches of lines -> answers -> evidence -> judgements -> table and TOML, or JSON
         pinban/replay       answers.py  evidence.py  judge.py     output.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rich.console import Console

from pinban.calibrate.answers import Reader
from pinban.calibrate.evidence import Answer, evidence_of
from pinban.calibrate.judge import judge, lists_with
from pinban.calibrate.output import as_object, show
from pinban.replay import batches, distinct
from shared.settings import Settings


def run_calibrate(files: Sequence[str], as_json: bool, settings: Settings, console: Console) -> None:
    """Read the files and print what each size probably means. PinbanError for a file that cannot be read."""
    reader = Reader(settings)
    names, _ = distinct(files, reader.notes.append)
    judged = judge(evidence_of(_answers(names, reader)), settings.receiver)
    changed = lists_with(judged, settings.receiver)
    if as_json:
        console.out(json.dumps(as_object(judged, changed, reader), indent=2), highlight=False)
    else:
        show(console, judged, changed, reader)


def _answers(names: Sequence[str], reader: Reader) -> Iterator[Answer]:
    for name in names:
        yield from reader.answers(name, batches(name, lambda _: None, reader.notes.append))
