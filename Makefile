# make demo      a trained PointNetSeg on synthetic streets, from nothing
# make test      the tests (under 10 minutes on 2 cores)
# make test-all  the slow tier as well
# make bench     speed against a plain PointNet; SCANS=DIR also times reading raw scans and packed ones
# make ui        the MLflow UI on 127.0.0.1

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := environments/constraints.txt
REPORT ?=
ARGS ?=

.PHONY: demo bench test test-slow test-all lint ui clean help
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile

$(VENV)/.main: pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable .
	touch $@

$(VENV)/.dev: pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable '.[dev]'
	touch $@ $(VENV)/.main

demo: $(VENV)/.main
	$(BIN)/python -m pointseg.train $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m 'not slow' $(if $(REPORT),--junitxml=$(REPORT)/test.xml) $(ARGS)

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow $(if $(REPORT),--junitxml=$(REPORT)/slow.xml) $(ARGS)

test-all: test test-slow

bench: $(VENV)/.dev
	$(BIN)/python tests/benchmarks/pointnet.py $(ARGS)
	$(if $(SCANS),$(BIN)/python tests/benchmarks/data_loading.py $(SCANS))

lint: $(VENV)/.dev
	$(BIN)/ruff check pointseg tests
	$(BIN)/ruff format --check pointseg tests
	$(BIN)/mypy pointseg

ui: $(VENV)/.main
	MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow ui --backend-store-uri sqlite:///mlruns.db --host 127.0.0.1 --port 5000

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache
