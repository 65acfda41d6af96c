# make demo      a trained PointNetSeg on synthetic streets, from nothing
# make test      the fast tests, minutes; JOBS=N: so many files of them beside each other
# make test-all  the slow tier as well, of which SLOW_JOBS=N files run beside each other
# make serving-env   what Azure's inference server runs, in .venv-serving; the tests of the scoring script need it
# make mount-env     the driver that Azure ML mounts outputs with, in .venv-mount; the tests of mounted outputs need it
# make bench     speed against a plain PointNet; SCANS=DIR also times reading raw scans and packed ones
# make azure-test-env   Azurite for the tests of Azure, into .azurite (apt's nodejs and npm where node is absent)
# make docs      docs/configuration.md, docs/modules.md and docs/images/house.svg anew, from the code and configs/
# make ui        the MLflow UI on 127.0.0.1; PORT=5001 where 5000 is taken

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SERVING := $(VENV)-serving
MOUNT := $(VENV)-mount
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := environments/constraints.txt
AZURITE_VERSION := 3.35.0
MOUNT_VERSION := 2.26.0
# test files beside each other
JOBS ?= 2
# of the slow tier one more than cores: its tests wait for servers, browsers and jobs, and for Azure where it asks them to
SLOW_JOBS ?= 3
# compiled Python is kept, whatever the shell says: tests start many processes, and each would compile all modules again
export PYTHONDONTWRITEBYTECODE :=
REPORT ?=
ARGS ?=
PORT ?= 5000

.PHONY: demo bench docs serving-env mount-env azure-test-env test test-slow test-all lint ui clean help
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

$(SERVING)/.ready: environments/serving.txt environments/serving-monitoring.txt
	$(PYTHON) -m venv --clear $(SERVING)
	$(SERVING)/bin/python -m pip --disable-pip-version-check install --quiet --requirement environments/serving.txt --requirement environments/serving-monitoring.txt
	$(SERVING)/bin/python -m pip --disable-pip-version-check check
	$(SERVING)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --editable .
	touch $@

$(MOUNT)/.ready:
	command -v fusermount >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends fuse >/dev/null; }
	$(PYTHON) -m venv --clear $(MOUNT)
	$(MOUNT)/bin/python -m pip --disable-pip-version-check install --quiet azureml-dataprep-rslex==$(MOUNT_VERSION)
	touch $@

mount-env: $(MOUNT)/.ready

serving-env: $(SERVING)/.ready

demo: $(VENV)/.main
	$(BIN)/python -m pointseg.train $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m 'not slow' $(if $(REPORT),--junitxml=$(REPORT)/test.xml) $(ARGS)

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(SLOW_JOBS) --dist loadfile -m slow $(if $(REPORT),--junitxml=$(REPORT)/slow.xml) $(ARGS)

test-all: test test-slow

azure-test-env: $(VENV)/.dev .azurite/.$(AZURITE_VERSION)

.azurite/.$(AZURITE_VERSION):
	command -v npm >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null; }
	npm install --prefix .azurite --no-save --no-audit --no-fund --loglevel=error azurite@$(AZURITE_VERSION)
	touch $@

bench: $(VENV)/.dev
	$(BIN)/python tests/benchmarks/pointnet.py $(ARGS)
	$(if $(SCANS),$(BIN)/python tests/benchmarks/data_loading.py $(SCANS))

lint: $(VENV)/.dev
	$(BIN)/ruff check docs pointseg scripts tests
	$(BIN)/ruff format --check docs pointseg scripts tests
	$(BIN)/mypy pointseg scripts
	MYPYPATH=tests:tests/support $(BIN)/mypy docs/generate

docs: $(VENV)/.dev
	$(BIN)/python docs/generate/config_page.py
	$(BIN)/python docs/generate/house.py

ui: $(VENV)/.main
	MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow ui --backend-store-uri sqlite:///mlruns.db --host 127.0.0.1 --port $(PORT) --workers 1

clean:
	rm -rf $(VENV) $(SERVING) $(MOUNT) build dist .mypy_cache .ruff_cache
