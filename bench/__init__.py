"""Measurements, each a command: start the lab -> load -> results -> figures; exit code 1 when a limit does not hold."""
