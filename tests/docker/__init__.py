"""compose.yaml on a real Docker engine: the engine, the images, and what must hold. Run by `make test-docker`.

__main__ (namespaces, cleaning) -> engine (dockerd, base image) -> check_*.py (pytest); guesser and bystander
"""
