# make quickstart   fine-tune the bundled model on the bundled urea data, offline, in minutes
# make test         lint, types and tests, from a clean checkout
# make docs         run the tutorials, build the site: build/site, and one file build/tlpot-docs.zip
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
LIGHT := .venv/installed-without-extras
STAMP := .venv/installed

help:
	@sed -n '1,3s/^# //p' Makefile

$(LIGHT): setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --editable .
	touch $(LIGHT)

$(STAMP): $(LIGHT)
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[test]'
	touch $(STAMP)

install: $(STAMP)

quickstart: $(LIGHT)
	rm -rf runs/quickstart
	$(BIN)/tlpot finetune examples/quickstart.yaml
	@echo 'What to do next:'
	@echo '  $(BIN)/tlpot info runs/quickstart'
	@echo '  $(BIN)/tlpot md datasets/urea/urea.extxyz@0 --model runs/quickstart --ps 0.5 --output runs/md'
	@echo '  $(BIN)/tlpot init --from YOUR/OUTCAR          # then: validate, finetune config.yaml'
	@echo '  $(BIN)/tlpot doctor                           # what is installed, and does it work'

# While mypy reads, the doctor compiles the kernels that both workers would else compile at once.
test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy & $(BIN)/tlpot doctor > /dev/null 2>&1; wait $$!
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

docs: $(STAMP)
	$(BIN)/python tools/tutorials.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python -m zipfile -c build/tlpot-docs.zip build/site/

# Every supported Python that is here, and the lowest versions: one table. Downloads gigabytes at first.
matrix:
	$(PYTHON) tools/matrix.py $(ARGS)

# One study by the name of its script, with options of its own: make bench-csp ARGS='--minutes 60'
bench-%: $(STAMP)
	$(BIN)/python $(or $(wildcard benchmarks/*/$*.py),$(error no study $*)) $(ARGS)

# What the repository alone can answer, reduced (minutes); all that is trained on X23, in full (hours;
# stop and start as you like, longest last).
bench: $(STAMP)
	$(BIN)/python benchmarks/accuracy/crystals.py --workers 2
	$(BIN)/python benchmarks/recipe/ablations.py --workers 2
	$(BIN)/python benchmarks/accuracy/forgetting.py

bench-full: $(STAMP)
	$(BIN)/python benchmarks/accuracy/crystals.py --full
	$(BIN)/python benchmarks/accuracy/crystals_parity.py
	$(BIN)/python benchmarks/accuracy/lattice_energy.py
	$(BIN)/python benchmarks/accuracy/uncertainty.py
	$(BIN)/python benchmarks/accuracy/forgetting.py --full --seeds 0 1 2
	$(BIN)/python benchmarks/recipe/ablations.py --full

# Every page and figure again, from the committed results.
bench-pages: $(STAMP)
	for study in $$(grep -l STUDY.main benchmarks/*/*.py); do $(BIN)/python $$study --page || exit 1; done

# Two thousand broken files of each kind, half an hour; the suite tries a dozen.
fuzz: $(STAMP)
	TLPOT_FUZZ=2000 $(BIN)/python -m pytest tests/test_fuzz.py -n 2

# Each verb killed a hundred times at random and at every change of its files, a quarter of an hour; the suite kills each five times.
kills: $(STAMP)
	TLPOT_KILLS=100 $(BIN)/python -m pytest tests/test_interrupted.py -n 2 -rP

# All of a release but the upload.
release-check: $(LIGHT)
	$(BIN)/python -m pip install --quiet build twine
	$(BIN)/python tools/release.py

clean:
	rm -rf .venv .venv-3.* .venv-lowest runs build dist *.egg-info

.PHONY: help install quickstart test docs fuzz kills release-check matrix bench bench-full bench-pages clean
