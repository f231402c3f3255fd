.PHONY: setup run test lint demo bench-attack bench-latency lock clean

setup:
	@scripts/setup

run: setup
	@.venv/bin/pinban run $(ARGS)

test: setup lint
	@.venv/bin/pytest $(ARGS)

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

demo: setup
	@.venv/bin/python -m tests.lab.demo

bench-attack: setup
	@.venv/bin/python -m bench.attack

bench-latency: setup
	@.venv/bin/python -m bench.latency

lock:
	@scripts/lock

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache
