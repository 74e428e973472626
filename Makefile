# Each target does its own set-up in .venv; a machine with Python >= 3.10 and make is enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
# images of containers set it, and then every process compiles what it imports anew: seconds for torch alone
unexport PYTHONDONTWRITEBYTECODE
FFCV_PACKAGES := pkg-config libturbojpeg0-dev libopencv-dev

.PHONY: demo test nightly quick check lint docs wheels constraints gpu soak mutants docs-check format clean

demo: .venv/base
	$(BIN)/mixstage demo

test: .venv/dev .venv/ffcv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# and what takes half of the time and seldom fails alone: whole sweeps, interpreted kernels, bounds checks, dry runs of benchmarks
nightly: .venv/dev .venv/ffcv
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

# what changes most often, under a minute on two cores: mathematics, plans, arguments, schedules, states
quick: .venv/dev
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -q -n 2 tests/test_faults.py tests/mixops tests/loaders/test_[adfp]*.py \
	  tests/loaders/test_s[ct]*.py $(addprefix --ignore=tests/mixops/,kernels apply/test_not_finite.py augment/test_laws_timm.py \
	  embedding mixers/test_co_mixup.py mixers/test_contract.py mixers/test_gradient_saliency.py mixers/test_needs.py \
	  mixers/test_puzzle.py mixers/test_registry.py mixers/test_several.py runtime/test_jit.py pairing/test_matching.py \
	  test_call.py test_theory.py test_inputs.py test_measures.py test_signatures.py test_cuda.py)

check: lint
	$(BIN)/python -m pytest -q tests/test_imports.py -k "not loads_no_backend"

lint: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# the site of docs/, in site/: open site/index.html, no server needed
docs: .venv/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# the wheel in clean environments of the oldest and the newest Python on the machine
wheels: .venv/dev
	$(BIN)/python -m tests.support.installed

# one set of versions for every Python and extra; a version that is pinned stays unless a range in pyproject.toml excludes it
constraints: .venv/base
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --all-extras --no-annotate \
	  --custom-compile-command "make constraints" --output-file constraints.txt pyproject.toml

# what needs a CUDA device: its tests, then the figures of benchmarks/results, written as they come; PARTS="kernels loader" are
# some of them, IMAGES=FOLDER (or a tar file of class folders) the photographs, without which synthetic ones are drawn
gpu: .venv/dev
	$(BIN)/python -m benchmarks.device $(PARTS) --save benchmarks/results $(if $(IMAGES),--images $(IMAGES))

soak: .venv/dev .venv/ffcv
	$(BIN)/python -m tests.support.soak --minutes $(or $(MINUTES),10)

mutants: .venv/dev
	$(BIN)/python -m tests.support.mutants

docs-check: .venv/dev .venv/ffcv
	$(BIN)/python -m pytest -m slow tests/test_docs.py

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/base: pyproject.toml constraints.txt
	@echo "setting up .venv (about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(INSTALL) --editable '.[dali,demo]'
	@touch $@

.venv/dev: .venv/base
	@echo "installing what tests and checks need"
	@$(INSTALL) --editable '.[arrow,bench,dali,datasets,demo,dev,docs,lmdb,remote,webdataset]'
	@touch $@

# FFCV is built from source and needs a compiler, TurboJPEG and OpenCV; without them its tests are skipped with a reason.
.venv/ffcv: .venv/dev
	@if ! pkg-config --exists libturbojpeg opencv4 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing $(FFCV_PACKAGES)"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(FFCV_PACKAGES) >/dev/null; \
	  else echo "FFCV needs: sudo apt-get install -y $(FFCV_PACKAGES)"; fi; fi
	@if pkg-config --exists libturbojpeg opencv4 2>/dev/null; then \
	  $(INSTALL) setuptools wheel && $(INSTALL) --no-build-isolation-package ffcv ffcv==1.0.2 && \
	  $(BIN)/python -c "from pipelines.ffcv import MixLoader"; fi
	@touch $@
