# make quickstart: five small runs, their table, figures and a page · make test · make test-fast · make test-oldest · make check ·
# make docs · make bench
# PYTHON=python3.12 make ... takes another Python; .venv is made once and kept.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test test-fast test-oldest check check-js docs bench install
.DEFAULT_GOAL := quickstart

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --progress-bar on torch torchvision
	$(BIN)/python -m pip install --progress-bar on -e '.[dev]'
	touch $@

install: .venv/installed

QUICKSTART := --problem digits_2c2d_bn --epochs 3 --seed 1
quickstart: install
	$(BIN)/python -m batchnorm.study run configs/studies/quickstart_digits.yaml
	@echo
	@$(BIN)/python -m batchnorm.analysis summary output $(QUICKSTART) --mask none all
	@echo
	@echo "The runs lie in output/; figures of them:"
	@$(BIN)/python -m batchnorm.analysis performance output $(QUICKSTART) --mask none all
	@$(BIN)/python -m batchnorm.analysis surface output $(QUICKSTART) --mask all --mode trained_bn
	@echo
	@echo "All of it on one page; open it in a browser:"
	@$(BIN)/python -m batchnorm.analysis report output $(QUICKSTART)

# Three at a time on two cores: some wait for SLURM. tests/conftest.py says which files take long; these begin first.
PYTEST := -m pytest -n 3 --dist loadfile --no-loadscope-reorder
test: install
	$(BIN)/python $(PYTEST)

test-fast: install
	$(BIN)/python $(PYTEST) -n 2 -m 'not slow'

# Pages about the functions and classes for scripts of users: build/api/index.html. A warning is an error.
PUBLIC := batchnorm.masking batchnorm.config batchnorm.problems batchnorm.store batchnorm.quantities batchnorm.study.grid \
	batchnorm.study.status \
	batchnorm.analysis.bn_plot_functions batchnorm.analysis.export batchnorm.analysis.summary batchnorm.analysis.tables batchnorm.analysis.effects \
	batchnorm.analysis.report
docs: install
	PDOC_ALLOW_EXEC=1 $(BIN)/python -W error -m pdoc --docformat google -o build/api $(PUBLIC) '!batchnorm.analysis.effects.plan'

# An environment of its own with the oldest versions that pyproject.toml names. It shares .venv's torch and torchvision, which
# are gigabytes, and whatever else is not installed in it; --check sees that nothing newer stands in for what is named. There
# an old package may use what a newer one that it needs calls deprecated.
OLDEST := .venv-oldest
$(OLDEST)/installed: pyproject.toml tests/oldest.py .venv/installed
	$(PYTHON) -m venv --clear $(OLDEST)
	$(BIN)/python -m tests.oldest > $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --progress-bar on -r $(OLDEST)/oldest.txt
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(OLDEST)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth"
	touch $@

test-oldest: $(OLDEST)/installed
	$(OLDEST)/bin/python -m tests.oldest --check
	$(OLDEST)/bin/python $(PYTEST) -W default::DeprecationWarning -W default::PendingDeprecationWarning

bench: install
	$(BIN)/python -m benchmarks

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The report's scripts: format, and types against those of what they read. npm keeps the checkers; nothing of them travels with
# the package.
.ci/node_modules/installed: .ci/package.json .ci/package-lock.json
	npm ci --prefix .ci --no-audit --no-fund
	touch $@

check-js: .ci/node_modules/installed
	.ci/node_modules/.bin/prettier --check --print-width 128 --single-quote 'batchnorm/analysis/report/*.js'
	.ci/node_modules/.bin/tsc --project .ci
