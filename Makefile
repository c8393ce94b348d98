# make demo    the whole main job, from nothing to a leaderboard
# make test    the tests
# make check   lint, types, layers
# make wheel   build the wheel

PYTHON ?= python3
VENV   ?= .venv
# Flags for the installation of torch, e.g. --extra-index-url https://download.pytorch.org/whl/cpu
TORCH_FLAGS ?=

BIN := $(VENV)/bin
# Bytecode is made of what is imported, when it is: of all that is installed it takes a minute.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --progress-bar on --no-compile

.PHONY: demo test check wheel clean
.DELETE_ON_ERROR:

# Bytecode is kept, whatever the environment says of it.
demo test: export PYTHONDONTWRITEBYTECODE=

demo: $(VENV)/.demo
	$(BIN)/lvmdb demo $(ARGS)

# A process a core: their OpenMP threads would only wait for each other.
test: $(VENV)/.dev $(VENV)/.vec2text
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n auto $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel

$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "lvmdb needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "Making the environment $(VENV) (a few minutes the first time)"
	$(PYTHON) -m venv $(VENV) || { echo "Python's venv is missing (Debian: apt install python3-venv)"; exit 1; }
	$(PIP) $(TORCH_FLAGS) -c constraints.txt torch==2.13.0
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(PIP) -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

# vec2text's own environment, which shares torch; without it, its tests are skipped and say why.
$(VENV)/.vec2text: $(VENV)/.dev lvmdb/decoding/vec2text-requirements.txt
	LVMDB_VEC2TEXT=$(abspath $(VENV))/vec2text $(BIN)/lvmdb vec2text install && touch $@ \
	  || echo "vec2text is not installed: its tests are skipped"

clean:
	rm -rf $(VENV) build dist
