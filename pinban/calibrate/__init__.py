"""What the sizes of refusals probably mean. Files -> answers -> evidence -> judgements -> table and TOML, JSON."""

from pinban.calibrate.run import run_calibrate

__all__ = [
    "run_calibrate",
]
