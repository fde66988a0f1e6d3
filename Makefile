# `make demo` and `make test` each do all of their own set-up in .venv; nothing outside this folder is touched.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-skills check campaign soak format clean

# `compat`: an import hook for editable installs would cost every command 13 ms.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --config-settings editable_mode=compat --editable '.[dev]'
	@touch $@

demo: .venv/ready  ## three nodes on this machine, real work, the leader killed
	$(BIN)/python demo.py

test: check  ## everything CI runs, a file of tests at a time on each of two cores
	$(BIN)/pytest --numprocesses 2 --dist loadfile

test-skills: .venv/ready  ## with the libraries of the skills that come with it: about 90 MB
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --config-settings editable_mode=compat --editable '.[skills]'
	$(BIN)/pytest tests/skills/test_builtin.py

campaign: .venv/ready  ## by hand, for hours: 10,000 seeds, every scenario whole, and two weeks without an election
	$(BIN)/python -m sims campaign --seeds 10000
	$(BIN)/python -m sims scenarios
	$(BIN)/python -m sims run sims/weeks/idle.toml
	$(BIN)/python -m sims run sims/weeks/stalls.toml

soak: .venv/ready  ## by hand, an hour of random kills under mixed work, and an hour of the crash matrix
	$(BIN)/python -m benchmarks.soak --minutes 60 --plot docs/plots/soak.svg
	$(BIN)/python -m benchmarks.crashes --rounds 1000 --minutes 60

check: .venv/ready  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
