# Two commands set everything up on a fresh machine: `make demo` and `make test`. Both need Python, pip and a package
# index only, and neither installs PyTorch.

PYTHON ?= python3
VENV := .venv
VENV_FULL := .venv-full
VENV_EDGES := .venv-edges
VENV_OPENVINO := .venv-openvino
# Changed kernels are compiled again: a library of another interface counts as none.
NATIVE := native/CMakeLists.txt $(wildcard native/include/* native/src/*.* native/src/*/*)

DEMO := "A cat sat on the mat." "A kitten rested on the rug." "The market fell sharply today." \
        "Stocks dropped this morning." "How do I bake sourdough bread?"

.PHONY: demo test test-full test-edges test-native faults bench lint fmt clean

demo: $(VENV)/.installed
	$(VENV)/bin/neuralcore similarity $(DEMO)

test: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -m "not full and not edges"

test-full: $(VENV_FULL)/.installed
	$(VENV_FULL)/bin/python -m pytest -m full

# The kernels, compiled in every way; see there for the packages it needs.
test-native:
	native/check

# langchain-tests brings pytest-asyncio, which wants to be told.
test-edges: $(VENV_EDGES)/.installed
	$(VENV_EDGES)/bin/python -m pytest tests/edges -o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=function

# Kills, full disks, hostile mirrors, folders and clients: some minutes, and not part of the tests.
faults: $(VENV)/.installed-test
	$(VENV)/bin/python -m faults

bench: $(VENV_FULL)/.installed $(VENV_OPENVINO)/.installed build/native/bench_products
	$(VENV_FULL)/bin/python -m benchmarks.run

lint: $(VENV)/.installed-lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

fmt: $(VENV)/.installed-lint
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) $(VENV_FULL) $(VENV_EDGES) $(VENV_OPENVINO)

$(VENV)/.installed: pyproject.toml $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(VENV)/bin/pip install --quiet --editable ".[test]"
	touch $@

$(VENV)/.installed-lint: $(VENV)/.installed-test
	$(VENV)/bin/pip install --quiet --editable ".[test,lint]"
	touch $@

# torch first and by itself: the pinned version has a CPU build where the index offers one.
$(VENV_FULL)/.installed: pyproject.toml $(NATIVE) tests/requirements-full.txt
	$(PYTHON) -m venv $(VENV_FULL)
	$(VENV_FULL)/bin/pip install --quiet torch==2.13.0
	$(VENV_FULL)/bin/pip install --quiet --editable ".[test]" --requirement tests/requirements-full.txt
	touch $@

# Everything the edges meet, and no PyTorch.
$(VENV_EDGES)/.installed: pyproject.toml $(NATIVE) tests/requirements-edges.txt
	$(PYTHON) -m venv $(VENV_EDGES)
	$(VENV_EDGES)/bin/pip install --quiet --editable ".[test]" --requirement tests/requirements-edges.txt
	! $(VENV_EDGES)/bin/pip list --format=freeze | grep -i '^torch=='
	touch $@

# A competitor of its own; INT8 by its own tool. It needs nothing of this package.
$(VENV_OPENVINO)/.installed: benchmarks/requirements-openvino.txt
	$(PYTHON) -m venv $(VENV_OPENVINO)
	$(VENV_OPENVINO)/bin/pip install --quiet --requirement $<
	touch $@

build/native/bench_products: native/bench/products.cpp native/bench/peaks.h $(NATIVE)
	cmake -S native -B build/native -DNEURALCORE_BENCH=ON
	cmake --build build/native --target bench_products
