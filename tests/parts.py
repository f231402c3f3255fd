"""The receiver's parts as its worker has them, for tests of one of them; nothing is started."""

from __future__ import annotations

from receiver.assembly import Parts, assemble
from receiver.inherited import Inherited
from receiver.intake import Sorter
from receiver.lines import Rulebook
from receiver.spool import Spool
from shared.settings import Settings


def parts_of(settings: Settings, spool: Spool) -> Parts:
    return assemble(Inherited(settings, Rulebook(settings), [], spool))


def sorter_of(settings: Settings) -> Sorter:
    return parts_of(settings, Spool(1)).sorter
