"""How hypothesis searches: as long as it needs, since a busy machine is no bug."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("pinban", deadline=None)
settings.load_profile("pinban")
