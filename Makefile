# make quickstart   fine-tune the bundled model on the bundled urea data, offline, in minutes
# make test         lint, types and tests, from a clean checkout
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

help:
	@sed -n '1,2s/^# //p' Makefile

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(STAMP)

install: $(STAMP)

quickstart: $(STAMP)
	rm -rf runs/quickstart
	$(BIN)/tlpot finetune examples/quickstart.yaml

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

bench-speed: $(STAMP)
	$(BIN)/python benchmarks/speed.py

bench-x23: $(STAMP)
	$(BIN)/python benchmarks/x23_finetune.py

bench-emodes: $(STAMP)
	$(BIN)/python benchmarks/emodes_transfer.py

# QM9's energies under $TLPOT_DATA/seeds: minutes, then hours; the last starts from a network of the first.
bench-qm9: $(STAMP)
	$(BIN)/python benchmarks/qm9_size_element.py
	$(BIN)/python benchmarks/qm9_size_element.py --times 10
	$(BIN)/python benchmarks/schnet_urea.py

bench-lattice: $(STAMP)
	$(BIN)/python benchmarks/lattice_energy.py

bench-stand-ins: $(STAMP)
	$(BIN)/python benchmarks/stand_ins.py

bench-elemental-modes: $(STAMP)
	$(BIN)/python benchmarks/elemental_modes.py

bench-elements: $(STAMP)
	$(BIN)/python benchmarks/elements.py --donors

bench-relax: $(STAMP)
	$(BIN)/python benchmarks/relax.py

bench-md: $(STAMP)
	[ -f runs/urea_ani2x/model.safetensors ] || $(BIN)/tlpot finetune examples/urea_ani2x.yaml
	$(BIN)/python benchmarks/md.py

bench-uncertainty: $(STAMP)
	$(BIN)/python benchmarks/uncertainty.py

# The peers' own environment: benchmarks/peers/requirements.txt.
bench-peers: $(STAMP)
	$(BIN)/python benchmarks/peers.py

bench-committee: $(STAMP)
	$(BIN)/python benchmarks/committee.py

bench-powder: $(STAMP)
	$(BIN)/python benchmarks/powder.py

bench-property: $(STAMP)
	$(BIN)/python benchmarks/property.py

bench-rank-scale: $(STAMP)
	$(BIN)/python benchmarks/rank_scale.py

bench-csp: $(STAMP)
	$(BIN)/python benchmarks/csp.py

STUDIES := crystals ablation_lambda ablation_batch ablation_transfer ablation_recipe ablation_data

# All studies at a reduced size (minutes; nothing but the repository, and with $TLPOT_DATA one model
# of three crystals), and in full (hours; stop and start as you like, longest last).
bench: $(STAMP)
	for study in $(STUDIES); do $(BIN)/python benchmarks/$$study.py --workers 2 || exit 1; done
	$(BIN)/python benchmarks/forgetting.py
	if [ -n "$$TLPOT_DATA" ]; then $(BIN)/python benchmarks/one_model.py; fi

bench-full: $(STAMP)
	for study in $(STUDIES); do $(BIN)/python benchmarks/$$study.py --full || exit 1; done
	$(BIN)/python benchmarks/crystals_parity.py
	$(BIN)/python benchmarks/lattice_energy.py
	$(BIN)/python benchmarks/forgetting.py --full --seeds 0 1 2
	$(BIN)/python benchmarks/size_and_element.py --full
	$(BIN)/python benchmarks/one_model.py --full

clean:
	rm -rf .venv runs build *.egg-info

.PHONY: help install quickstart test bench-speed bench-x23 bench-lattice bench-stand-ins bench-elements bench-uncertainty bench-committee bench-relax bench-md bench bench-full bench-elemental-modes bench-peers bench-csp bench-rank-scale bench-property bench-qm9 bench-powder clean
