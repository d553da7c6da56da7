# make quickstart: five small runs and their table · make test · make check · make bench
# PYTHON=python3.12 make ... takes another Python; .venv is made once and kept.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test check install
.DEFAULT_GOAL := quickstart

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --progress-bar on torch torchvision
	$(BIN)/python -m pip install --progress-bar on -e '.[dev]'
	touch $@

install: .venv/installed

quickstart: install
	$(BIN)/python -m batchnorm.study run configs/studies/quickstart_digits.yaml
	$(BIN)/python -m batchnorm.analysis summary output/

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
