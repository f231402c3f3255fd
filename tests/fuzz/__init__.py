"""Coverage-guided fuzzing: seeds and hostile bytes -> a target's check() -> silence, or an error and the input kept.

Targets hold invariants and know nothing of the engine. `python -m tests.fuzz` runs one under the engine, in a process
of its own: the engine instruments what it imports, and ends the process.
"""
