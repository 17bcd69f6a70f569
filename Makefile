# make demo | test | lint | study | study-machines | soak | emulated-sg2042 | docs | clean. Needs Python 3.11 to 3.13; everything else goes into .venv.
# PIP_FLAGS is passed to pip, for instance to take the CPU build of PyTorch from its index (see README).

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
PIP_FLAGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint study study-machines soak emulated-sg2042 docs clean

demo: .venv/installed
	@mkdir -p demo
	@echo "== ViT on the SG2042: the free optimum, under a latency limit, and the paper's pipeline of 16 stages"
	$(BIN)/mapper plan --model vit --topo sg2042.json -o demo/vit.sg2042.json
	$(BIN)/mapper plan --model vit --topo sg2042.json --max-latency 1s -o demo/vit.sg2042.1s.json
	$(BIN)/mapper plan --model vit --topo sg2042.json --stages 16 --replicas 1 --configurations 1x4 -o demo/vit.sg2042.16.json
	@echo "== ViT on this machine: planned, run, measured, and compared with the unsplit model"
	$(BIN)/mapper plan --model vit --topo host -o demo/vit.host.json
	$(BIN)/mapper run demo/vit.host.json --items 40

test: .venv/tested lint
	@echo "== Tests that run beside each other"
	@$(BIN)/python -m pytest -m "not soak and not machine" -n 2 --dist loadfile
	@echo "== Tests that need the cores of this machine"
	@$(BIN)/python -m pytest -m "not soak and machine"

study: .venv/installed
	$(BIN)/mapper study --topo sg2042

study-machines: .venv/installed
	@for topo in sg2042-2s sg2044 epyc-7763 altra-q80-30; do \
	  $(BIN)/mapper study --topo $$topo --model mobilenetv2 --model vgg16 --model bert --model gpt2_decode \
	    --items 1,8 --calls 1 --samples 20 || exit 1; echo; done

soak: .venv/tested
	@echo "== Everything, also what is too long for every change: tests that run beside each other"
	@$(BIN)/python -m pytest --hypothesis-profile=soak -m "not machine" -n 2 --dist loadfile
	@echo "== Tests that need the cores of this machine"
	@$(BIN)/python -m pytest -m machine

# Downloads about 0.4 GB once; takes long. CHECKS selects, such as CHECKS="--part topology --board boot8" or CHECKS=--list.
emulated-sg2042: .venv/tested
	@echo "== A RISC-V machine with the SG2042's topology, emulated: its times are no performance"
	@$(BIN)/python -m tests.emulation check $(CHECKS)

lint: .venv/tested
	@echo "== ruff, mypy --strict, import-linter"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

.venv/installed: pyproject.toml mapper/solver/covers/_pass.h mapper/solver/covers/_cover.c mapper/solver/covers/_nearness.c \
		mapper/solver/covers/_labels.c mapper/measure/_probe.c
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "== Installing mapper into .venv (PyTorch is large: a minute or two)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) install --quiet $(PIP_FLAGS) --editable .
	@touch $@

.venv/tested: .venv/installed
	@echo "== Installing what the tests need into .venv"
	@$(PIP) install --quiet $(PIP_FLAGS) --editable '.[test,docs]'
	@touch $@

.venv/documented: .venv/installed
	@echo "== Installing what the documentation needs into .venv"
	@$(PIP) install --quiet $(PIP_FLAGS) --editable '.[docs,reports]'
	@touch $@

docs: .venv/documented
	@$(BIN)/python -m sphinx -W --keep-going --quiet -b html docs docs/_build
	@echo "Written to docs/_build/index.html"

clean:
	rm -rf .venv build dist docs/_build docs/reference *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
