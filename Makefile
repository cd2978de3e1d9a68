# 'make demo' and 'make test' do all set-up by themselves: a virtual environment in .venv, by plain venv and pip.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-oldest walk gpu faults fuzz mutants lint format clean

demo: $(VENV)/.installed
	$(BIN)/gz-lightning demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto

# Tests and measurements that need a GPU: GPU='--data galaxies_64px.h5' adds a distillation. It uses the environment of
# $(PYTHON) as it is, for a PyTorch that fits the card is there already.
gpu:
	$(PYTHON) benchmarks/gpu.py --minutes 8 --json benchmarks/results/gpu.json $(GPU)

# README's nine minutes on real galaxies as they are written ('make test' cuts their numbers): GZ_REAL_DATA names the folder
# that holds gz2_5class.
walk: $(VENV)/.installed
	GZ_WHOLE_WALK=1 $(BIN)/python -m pytest -s tests/test_docs.py -k walk

# Disturbs real processes some hundred times (half an hour); 'make test' has a short form.
faults: $(VENV)/.installed
	$(BIN)/python -m tests.hostile.faults

# Changes files of every kind in 10,000 ways and has them read (a quarter of an hour); 'make test' has a short form.
fuzz: $(VENV)/.installed
	$(BIN)/python -m tests.hostile.fuzz --cases 10000

# Changes one thing at a time in the code whose mistakes would be silent, and has its tests notice (three quarters of an
# hour); goes on with what build/mutants holds, and writes tests/hostile/mutants/RECORD.md.
mutants: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,mutants]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.hostile.mutants

# The tests with the oldest release of everything that pyproject.toml allows, in an environment of its own (another 6 GB).
test-oldest:
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --constraint constraints-oldest.txt --editable '.[dev]'
	.venv-oldest/bin/python -m pytest -n auto

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest .pytest_cache .mypy_cache .ruff_cache .hypothesis
