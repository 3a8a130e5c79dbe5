# make demo    train, encode and compare four tokenizers on Python's own sources (and FILES="...", if given)
# make quickstart   from text to a model that transformers loads, on one core
# make test    everything CI runs: ruff, mypy --strict, layering, pytest
# make bench   speed against other tokenizers, on demand        make golden  rewrite generated files
# make curves  train the tiny runs that forecasts of others are checked with, two hours of one core
# make portable   the same tests of the tokenizers on the engine that runs where there is no compiler
# make docs    the site into build/site, strict
# make asan    the tests of the engine's module under AddressSanitizer, minutes
# make fuzz    sanitizers and a coverage-guided fuzzer on the engine, FUZZ_SECONDS in all

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := .venv-demo
NATIVE := $(shell find llmtool/core/bpe/native -type f)
FUZZ_SECONDS ?= 60
# Two spinning threads on two busy cores are 20 to 60 times slower than one.
export OMP_NUM_THREADS := 1
# Tests start llmtool many hundred times: it is compiled once, also where nothing is to be written by default.
export PYTHONDONTWRITEBYTECODE :=
# A C++ error must fail here; an install without a compiler falls back to portable Python.
export LLMTOOL_REQUIRE_NATIVE := 1

.PHONY: docs curves demo quickstart test lint portable fmt bench golden fuzz asan clean
# An environment of its own, with what the demo needs and no torch: a minute after the download.
demo: $(DEMO)/.installed
	BIN=$(DEMO)/bin recipes/demo.sh demo-output $(FILES)

$(DEMO)/.installed: pyproject.toml constraints.txt $(NATIVE)
	@echo "installing the base and matplotlib into $(DEMO), the engine is compiled: about a minute" >&2
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt '.[plots]'
	touch $@

quickstart: $(VENV)/.built
	BIN=$(BIN) recipes/quickstart.sh quickstart-output $(FILES)

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.built
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# An install without a compiler must succeed, and run on the portable engine.
portable: $(VENV)/.built
	rm -rf build/portable
	env -u LLMTOOL_REQUIRE_NATIVE CXX=/bin/false CC=/bin/false $(BIN)/pip install --quiet --no-build-isolation \
	    --no-deps --config-settings=build-dir=build/portable-objects --target build/portable .
	# -S: without the editable install's import hook, which would find the engine that was built for it
	packages=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); cd build/portable && \
	    PYTHONPATH=.:$$packages ../../$(BIN)/python -S -m llmtool doctor | grep "tokenizer engine: python"
	LLMTOOL_ENGINE=python $(BIN)/python -m pytest -n 2 tests/methods tests/core/bpe/test_training.py \
	    tests/core/bpe/test_tokenizer.py tests/commands/tokenizer tests/cli/test_app.py

fmt: $(VENV)/.built
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.built
	@test -n "$(CORPUS)" || { echo "usage: make bench CORPUS=corpus.jsonl (large and diverse: 100 MB and more)"; exit 2; }
	$(BIN)/python benchmarks/tokenizer.py $(CORPUS)

curves: $(VENV)/.built
	$(BIN)/python benchmarks/curves.py docs/results/temporal_scaling/curves docs/results/temporal_scaling/sweep

golden: $(VENV)/.built
	$(BIN)/python -m llmtool.cli.surface
	$(BIN)/python -m tests.cli.test_surface

docs: $(VENV)/.built
	$(BIN)/python -c 'import material, mkdocstrings' 2> /dev/null || \
	    $(BIN)/pip install --quiet -c constraints.txt mkdocs-material 'mkdocstrings[python]'
	$(BIN)/python -m mkdocs build --quiet

asan: $(VENV)/.built
	PYTHON=$(CURDIR)/$(BIN)/python tests/fuzz/asan.sh

fuzz: $(VENV)/.built
	tests/fuzz/run.sh $(FUZZ_SECONDS)

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt scikit-build-core nanobind cmake ninja
	$(BIN)/pip install --quiet -c constraints.txt --no-build-isolation --editable '.[dev]'
	touch $@

# An editable install does not rebuild C++ by itself.
$(VENV)/.built: $(VENV)/.installed $(NATIVE)
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) build demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis
