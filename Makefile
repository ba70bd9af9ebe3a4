# Everything happens in .venv, which the first command makes. Needs Python 3.11+ and make.
# Another environment: make VENV=.venv-docs docs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL = install --quiet --constraint constraints.txt --editable

# Where docstrings must be complete: what users call.
PUBLIC = $(addprefix skemvae/, \
  em_gaussian_mixture.py partial_fit.py mixture_parameters.py mixture_density.py variational_em.py model_density.py vae.py deep_density.py base.py \
  transformed/estimator.py transformed/answers.py outliers.py comparison/compare.py bound_monitor.py versions.py \
  models/bayesian_mixture.py models/factor_model.py models/latent_variable_model.py bijections/base.py \
  displays/bound.py displays/density.py displays/feature_score.py displays/gap.py displays/latent.py \
  displays/mixture.py persistence/files.py onnx/export.py tables/batches.py)

# What `make laws` draws: another seed each time, so many examples of each law. 80 take about two minutes.
SEED := $(shell date +%s)
EXAMPLES := 80

.PHONY: help demo test laws sanitize test-oldest docs pictures lint format wheel bench clean

help:
	@echo "make demo         one search over three families on real data, anomalies, samples, pictures"
	@echo "make test         run the tests, with the same draws on every machine"
	@echo "make laws         hunt: try the laws on fresh draws and more examples (two minutes)"
	@echo "make sanitize     run the tests of the compiled kernel under the sanitizers of GCC"
	@echo "make test-oldest  run the tests with the oldest versions of the dependencies"
	@echo "make docs         build the site with all examples: docs/_build/html/index.html"
	@echo "make pictures     draw the pictures of the guide again"
	@echo "make lint         check style and types"
	@echo "make format       put the code into the common style"
	@echo "make wheel        build a wheel with the compiled kernel, and try it in an environment of its own"
	@echo "make bench        time EM and variational EM against scikit-learn, VAEs against bare torch"
	@echo "make clean        remove what these commands made"

demo: $(VENV)/demo
	@echo "== Running examples/quickstart.py"
	$(BIN)/python examples/quickstart.py

test: $(VENV)/test
	@echo "== Running the tests"
	$(BIN)/python -m pytest -n 2 --dist worksteal

laws: $(VENV)/test
	@echo "== Trying the laws on fresh draws: SEED=$(SEED) EXAMPLES=$(EXAMPLES)"
	HYPOTHESIS_PROFILE=laws EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -n 2 --dist worksteal \
	  -m hypothesis --hypothesis-seed=$(SEED) tests

# A copy of the library, whose kernel stops at the first access beyond memory and the first overflow.
SANITIZED := build/sanitized
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined
KERNEL_TESTS = tests/kernel $(addprefix tests/engine/test_, \
  compiled_pass.py whole_steps.py k_means.py quasi_newton.py)

sanitize: $(VENV)/test
	@echo "== Building the kernel with sanitizers in $(SANITIZED)"
	rm -rf $(SANITIZED)
	mkdir -p $(SANITIZED)
	cp -r skemvae tests pyproject.toml $(SANITIZED)
	$(CXX) -std=c++17 -O1 -g -fPIC -shared -pthread -Wno-ignored-attributes $(SANITIZE) \
	  -I$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('include'))") \
	  skemvae/kernel/*.cpp -o $(SANITIZED)/skemvae/kernel/_kernel.abi3.so
	@echo "== Running the tests of the kernel under them"
	cd $(SANITIZED) && PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	  LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	  $(abspath $(BIN))/python -m pytest -p no:cacheprovider $(KERNEL_TESTS)

# -W: a warning is an error; -n: so is a reference to nothing.
docs: $(VENV)/docs
	@echo "== Building the site (some minutes: every example runs)"
	rm -rf docs/generated
	$(BIN)/sphinx-build -W --keep-going -n -q docs docs/_build/html

pictures: $(VENV)/docs
	@echo "== Drawing docs/pictures (half a minute)"
	$(BIN)/python docs/pictures/draw.py

lint: $(VENV)/lint
	@echo "== Checking style and types"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m numpydoc lint $(PUBLIC)

format: $(VENV)/lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# For this machine; for others see "Wheels" in CONTRIBUTING.md.
wheel: $(VENV)/bin/python
	@echo "== Building dist/skemvae-*.whl, and installing it in $(VENV)-wheel"
	rm -rf build dist $(VENV)-wheel
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/pip install --quiet --constraint constraints.txt dist/skemvae-*.whl
	cd dist && ../$(VENV)-wheel/bin/python -c "import skemvae; skemvae.show_versions()"

bench: $(VENV)/demo
	$(BIN)/python benchmarks/em.py
	$(BIN)/python benchmarks/vae_throughput.py
	$(BIN)/python benchmarks/variational.py

clean:
	rm -rf $(VENV) $(VENV)-* build dist skemvae/kernel/*.so output *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	  docs/_build docs/generated docs/gallery examples/output docs/sg_execution_times.rst

# What each command needs; the files tell make that it is installed.
$(VENV)/bin/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "skemvae needs Python 3.11 or newer: make PYTHON=/path/to/python $(MAKECMDGOALS)"; exit 1; }
	@echo "== Creating $(VENV)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo $(VENV)/test $(VENV)/docs $(VENV)/lint: $(VENV)/bin/python pyproject.toml constraints.txt

$(VENV)/demo:
	@echo "== Installing skemvae and what the examples need (a few minutes)"
	$(BIN)/pip $(PIP_INSTALL) ".[examples]"
	@touch $@

$(VENV)/test:
	@echo "== Installing skemvae and what the tests need (a few minutes)"
	$(BIN)/pip $(PIP_INSTALL) ".[examples,test]"
	@touch $@

$(VENV)/docs:
	@echo "== Installing skemvae and what the site needs (a few minutes)"
	$(BIN)/pip $(PIP_INSTALL) ".[examples,docs]"
	@touch $@

$(VENV)/lint:
	@echo "== Installing what checks style, types and docstrings"
	$(BIN)/pip $(PIP_INSTALL) ".[lint]"
	@touch $@

test-oldest: pyproject.toml constraints-oldest.txt
	@echo "== Installing the oldest dependencies into $(VENV)-oldest"
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/pip install --quiet --constraint constraints-oldest.txt --editable ".[vae,test]"
	@# The documents draw pictures, with libraries that are not among these.
	$(VENV)-oldest/bin/python -m pytest tests --ignore tests/test_documentation.py
