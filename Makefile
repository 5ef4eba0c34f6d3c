# Two commands: `make run` and `make test`. Each target sets up .venv by itself; a second call starts at once.
# Choices: PROFILE=smoke|cpu|gpu  DATA=toy|real  JOBS=2  NAMES="geometry 11_sdf"  PYTHON=python3.12
PYTHON  ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
PROFILE ?= smoke
DATA    ?= toy
JOBS    ?= 2
NAMES   ?=
BIN     := .venv/bin
PIP     := $(BIN)/python -m pip --disable-pip-version-check install --progress-bar off -q -c constraints.txt

.PHONY: help run test lab site bench lint all clean
help:
	@echo "make run    run the book on made-up data (PROFILE=$(PROFILE) DATA=$(DATA) JOBS=$(JOBS))"
	@echo "make test   every test          make lab    open the notebooks in JupyterLab"
	@echo "make site   build the web pages make bench  measure against peers"
	@echo "make lint   ruff                make all    add every optional package"
	@echo "make clean  remove runs, pages and caches (not .venv)"

# The stamps are written last: an install that was cut starts again.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "densebook needs Python 3.11 or 3.12; found $$($(PYTHON) --version 2>&1). Install one, or: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "no venv module: apt-get install python3-venv"; exit 1; }

.venv/.book: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing the book into .venv (some minutes and gigabytes the first time: PyTorch brings its CUDA libraries)"
	@$(PIP) -e '.[book]'
	@touch $@

.venv/.dev: .venv/.book
	@echo "Installing the test tools into .venv"
	@$(PIP) -e '.[book,dev]'
	@touch $@

.venv/.bench: .venv/.book
	@echo "Installing the peers that the benchmarks measure into .venv"
	@$(PIP) -e '.[book,bench]'
	@touch $@

run: .venv/.book
	@$(BIN)/densebook run $(NAMES) --profile $(PROFILE) --data $(DATA) --jobs $(JOBS)

test: .venv/.dev
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

lint: .venv/.dev
	@$(BIN)/ruff check .

lab: .venv/.book
	@$(BIN)/jupyter lab nbs

site: .venv/.book
	@$(BIN)/densebook site

bench: .venv/.bench
	@$(BIN)/densebook bench

all: .venv/.dev .venv/.bench
	@$(PIP) -e '.[all]'

clean:
	@rm -rf runs _site _docs _proc .pytest_cache .hypothesis .ruff_cache build *.egg-info
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	@if [ -x $(BIN)/python ]; then rm -f .venv/.book .venv/.dev .venv/.bench; fi
	@echo "Removed runs, pages and caches; .venv and downloaded data stay (rm -rf .venv to start over)"
