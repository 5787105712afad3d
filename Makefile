# Everything here sets itself up: on a fresh Linux machine with Python 3.11 or newer `make demo` and `make test` just work.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 4

.DEFAULT_GOAL := help
.PHONY: help install demo test long check format golden conformance bench benchmark-latency clean

help:  ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-18s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Lateen needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "This Python cannot make virtual environments: install its venv module (Debian: python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary --only-binary :all: -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

install: $(STAMP)  ## Install Lateen and its tools into .venv

demo: $(STAMP)  ## Run the example application in the mesh and say what to open
	@echo "Once it is ready, open http://127.0.0.1:8080/productpage and reload it a few times. In another terminal, try:"
	@echo "  cp examples/bookinfo/tasks/reviews-v1.yaml examples/bookinfo/mesh/reviews.yaml    # everybody to one version"
	@echo "  rm examples/bookinfo/mesh/reviews.yaml                                            # and back"
	@echo "  $(BIN)/lateen status        More: docs/tutorial/bookinfo.md. Ctrl-C stops everything."
	@$(BIN)/lateen up examples/bookinfo

test: $(STAMP)  ## Run every test, on real Envoys
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder

long: $(STAMP)  ## Run the long forms: thousands of examples that are others every time, 1,000 swaps of subsets and 200 quick edits under load
	LATEEN_LONG=1 $(BIN)/python -m pytest -n $(JOBS) tests/properties
	LATEEN_SWAPS=1000 $(BIN)/python -m pytest tests/features/test_robustness.py -k 'swapped or edit_every'

check: $(STAMP)  ## Check format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

golden: $(STAMP)  ## Rewrite the golden files; read the diff afterwards
	$(BIN)/python -m tests.golden.rewrite

conformance: $(STAMP)  ## Judge `lateen validate` and `lateen test` by the outside cases, where they are at hand
	$(BIN)/python ../shared/conformance/check.py --root ../shared/conformance --floor 0 validation routing

benchmark-latency: $(STAMP)  ## Draw the latency chart anew: sidecars and Mixer beside a hand-written Envoy (ten minutes)
	$(BIN)/python benchmarks/latency.py

bench: $(STAMP)  ## Run the benchmarks (minutes)
	$(BIN)/python benchmarks/control_plane_xds.py
	$(BIN)/python benchmarks/planning.py
	$(BIN)/python benchmarks/control_plane.py
	$(BIN)/python benchmarks/data_path.py
	$(BIN)/python benchmarks/identity.py
	$(BIN)/python benchmarks/mixer.py
	$(BIN)/python benchmarks/quota.py
	$(BIN)/python benchmarks/start.py

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
