# Only Python 3.11 to 3.13 and pip have to be on the machine: every target installs what it needs,
# in the versions of constraints.txt, into .venv of this folder.
#
# pip takes the torch it finds. Without a GPU its CPU build is smaller by gigabytes:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

PYTHON ?= python3
PYTEST_ARGS ?=
WORKERS ?= 2

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt
RUN := .venv/.stamp-run
DEV := .venv/.stamp-dev
DOCS := .venv/.stamp-docs
BENCHMARKS := $(filter-out benchmarks/_% benchmarks/gpu.py,$(wildcard benchmarks/*.py))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow lint house docs docs-serve bench atlas smollm2 dev clean

help:  ## This list
	@echo "cogcalib: fine-tune language models so that their confidence can be trusted"
	@echo
	@awk -F ':.*## *' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUN)  ## Train, probe and score the embedded model: no download, no GPU
	$(BIN)/cogcalib demo

# Many tiny models side by side: threads inside each only get in each other's way.
test test-slow: export OMP_NUM_THREADS := 1

test: $(DEV)  ## Run the tests (PYTEST_ARGS=tests/metrics for some of them)
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

test-slow: $(DEV)  ## Run the tests that take minutes
	$(BIN)/python -m pytest -n $(WORKERS) -m slow $(PYTEST_ARGS)

lint: $(DEV)  ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src

house: $(DEV)  ## The package in figures: files, lines, names, imports
	$(BIN)/python tests/house.py

# The site needs no address beyond this machine, and says nothing of itself to anybody.
docs docs-serve: export NO_MKDOCS_2_WARNING := true

docs: $(DOCS)  ## Build the documentation into site/; a dead link is an error
	$(BIN)/mkdocs build --strict
	@echo "Written: site/index.html"

docs-serve: $(DOCS)  ## The same at http://127.0.0.1:8000, built anew on every change
	$(BIN)/mkdocs serve

ifeq ($(BENCHMARKS),)
bench:
	@echo "Nothing to run: there is no benchmark in benchmarks/ yet." >&2; exit 1
else
bench: $(DEV)  ## Run every benchmark: benchmarks/results, docs/benchmarks.md
	@mkdir -p benchmarks/results
	@missed=; for name in $(basename $(notdir $(BENCHMARKS))); do \
		echo "== $$name"; \
		$(BIN)/python benchmarks/$$name.py --json benchmarks/results/$$name.json \
			|| missed="$$missed $$name"; \
	done; $(BIN)/python benchmarks/_page.py || missed="$$missed docs/benchmarks.md"; \
	test -z "$$missed" || { echo "Not finished:$$missed" >&2; exit 1; }
endif

atlas: $(DEV)  ## Rebuild the embedded world's shipped weights from scratch
	$(BIN)/python -m cogcalib.atlas.pretrain --output src/cogcalib/atlas/models/llama

smollm2: $(RUN)  ## Fetch SmolLM2-135M, a real language model (93 MB): --model smollm2
	$(PIP) -e ".[gguf]"
	$(BIN)/python -m cogcalib.modeling.smollm2

dev: $(DEV)  ## Install everything a developer needs, and do nothing else

clean:  ## Remove what can be made again: .venv, caches, builds (never runs/)
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A stamp is touched last, so that an interrupted install is taken up again, not taken for done.
# torch goes first and by itself: there pip still takes the CPU build wherever it finds one.
$(RUN): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit( \
		"cogcalib needs Python 3.11, 3.12 or 3.13. $(PYTHON) is " + sys.version.split()[0] + \
		"; name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) -e .
	@touch $@

$(DEV): $(RUN)
	$(PIP) -e ".[dev]"
	@touch $@

$(DOCS): $(RUN)
	$(PIP) -e ".[docs]"
	@touch $@
