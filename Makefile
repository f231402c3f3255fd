.PHONY: setup run test test-fuzz test-docker lint soak demo bench-attack bench-latency bench-classify bench-memory bench-bans bench-ipset bench-witness ground fuzz lock clean

setup:
	@scripts/setup

run: setup
	@.venv/bin/pinban run $(ARGS)

test: setup lint
	@.venv/bin/pytest $(ARGS)

test-fuzz: setup
	@.venv/bin/pytest -o python_files=check_engine.py tests/fuzz $(ARGS)

test-docker:
	@scripts/setup docker
	@.venv/bin/python -m tests.docker $(ARGS)

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

soak: setup
	@.venv/bin/python -m tests.chaos $(ARGS)

demo: setup
	@.venv/bin/python -m tests.lab.demo

bench-attack: setup
	@.venv/bin/python -m bench.attack

bench-latency: setup
	@.venv/bin/python -m bench.latency

bench-classify: setup
	@.venv/bin/python -m bench.classify

bench-memory: setup
	@.venv/bin/python -m bench.memory

bench-bans: setup
	@.venv/bin/python -m bench.bans

bench-ipset: setup
	@.venv/bin/python -m bench.ipset $(ARGS)

bench-witness: setup
	@.venv/bin/python -m bench.witness

ground: setup
	@.venv/bin/python -m tests.ground_truth $(ARGS)

fuzz: setup
	@.venv/bin/python -m tests.fuzz $(ARGS)

lock:
	@scripts/lock

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache
