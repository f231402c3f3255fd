"""How hypothesis searches: as long as it needs, since a busy machine is no bug."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("pinban", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pinban")
