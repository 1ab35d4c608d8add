# Two commands matter: `make compare` and `make test`. Both install what they need into .venv first.
#
# Without a GPU, elsewhere than in this project's own environment, pip brings gigabytes of CUDA with torch. Then:
#   make compare TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
QUICK ?=
VENV := .venv
BIN := $(VENV)/bin
TORCH := $(shell grep '^torch==' requirements.txt)
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: help compare test check lint stress scale-check gpu-check audit report docs release-check benchmark wheel install install-dev clean
.DEFAULT_GOAL := help

help:
	@echo "make compare    train five attention mechanisms and three baselines on generated reviews, write out/index.html"
	@echo "make test       lint, types, tests (about 4 minutes)"
	@echo "make check      the same with the long tests"
	@echo "make stress     kills, faults of the disk, records written at once, bad input, hostile checkpoints and clients, counted (at most 30 minutes on 2 cores), results/reliability/"
	@echo "make audit      known advisories of the pinned requirements, where they can be had"
	@echo "make benchmark  this project beside its peers, and by length (35 minutes on an idle machine; QUICK=1: 8), out/"
	@echo "make scale-check  one run on 1, 2 and 4 processes, one of them killed, and timed; a grid on Ray, where it is installed; a search; memory of ten million rows (half an hour on 2 idle cores), results/scaling/"
	@echo "make gpu-check  what must hold on a GPU, for someone who has one (some minutes)"
	@echo "make report     every table and figure of results/, README and docs/ again, from the run records alone; pages in out/results/"
	@echo "make docs       the documentation as a site, out/site/index.html"
	@echo "make release-check  what must hold before a release: wheel and sdist, a clean environment, the README's commands"
	@echo "make clean      remove .venv and caches (not out/)"

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/pip install --quiet --no-deps -r requirements.txt
	$(BIN)/pip install --quiet --no-deps -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps -r requirements-dev.txt
	@touch $@

$(VENV)/installed-bench: $(VENV)/installed-dev requirements-bench.txt
	$(BIN)/pip install --quiet --no-deps -r requirements-bench.txt
	@touch $@

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev

compare: install
	$(BIN)/longread compare

lint: install-dev
	$(BIN)/ruff check src tests stress experiments benchmarks results docs notebooks
	$(BIN)/ruff format --check src tests stress experiments benchmarks results docs notebooks
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2 --dist worksteal

check: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

stress: install-dev
	$(BIN)/python stress/run.py

$(VENV)/installed-audit: Makefile
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet pip-audit==2.10.1
	@touch $@

audit: install $(VENV)/installed-audit
	$(BIN)/python .ci/audit.py $(VENV)/audit/bin/pip-audit requirements.txt requirements-dev.txt requirements-bench.txt

scale-check: install-dev
	$(BIN)/python stress/scale.py

gpu-check: install-dev
	$(BIN)/python stress/gpu.py

$(VENV)/installed-docs: requirements-docs.txt
	$(PYTHON) -m venv $(VENV)/docs
	$(VENV)/docs/bin/pip install --quiet --no-deps -r requirements-docs.txt
	@touch $@

docs: install $(VENV)/installed-docs
	$(BIN)/python docs/build.py reference
	$(VENV)/docs/bin/python docs/build.py

release-check:
	PYTHON=$(PYTHON) TORCH_INDEX=$(TORCH_INDEX) .ci/release-check

report: install
	$(BIN)/python results/update_documents.py
	$(BIN)/python docs/make_figures.py

benchmark: $(VENV)/installed-bench
	$(BIN)/python benchmarks/run.py $(if $(QUICK),--quick) --out out/benchmarks
	$(BIN)/longread benchmark --seconds $(if $(QUICK),0.1 --lengths 512 1024 2048 4096,0.3 --lengths 512 1024 2048 4096 8192 16384) \
	  --out out/lengths

wheel: install
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist src/*.egg-info
