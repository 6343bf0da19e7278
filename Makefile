# make demo       train on real data: a table and a picture
# make test       the test suite, below 10 minutes on 2 cores
# make test-all   also what takes longer: installations into fresh venvs; and
#                 that all lines of wnorm/ run
# make test-torch what needs PyTorch, which it installs (CPU builds are at
#                 https://download.pytorch.org/whl/cpu: PIP_INDEX_URL)
# make docs       the manual, in build/docs
# make bench      time, memory, compiling: tables and a chart (BENCH=--quick
#                 for two minutes of it)
# make bench-mpi  data-parallel training: steps, messages, and a model of more
#                 machines
# make test-sanitize  the C code under AddressSanitizer and UBSan
# make doctor     what this machine has, what was remedied, what is wrong
#
# make gpu          fetch what an NVIDIA card needs, and try it
# make test-gpu     the GPU suite on that card
# make test-opencl  a part of the GPU suite without a card, on PoCL; all of it:
#                   make test-opencl GPU_TESTS=gpu
# make check-cudnn  compile against cuDNN 8 and 9, without a card (GBs)
# make gpu-bundle   a folder for GPU nodes without network
#
# PYTHON=python3.9    another interpreter (3.8 to 3.11), in a venv of its own
# LASAGNE=folder      another checkout of Lasagne in place of the installed one
# WORKERS=8           tests run in so many processes (2), each of which compiles

PYTHON = python3
LASAGNE =
BENCH =
VENV = .venv$(filter-out -python3,-$(notdir $(PYTHON)))
BIN = $(VENV)/bin
READY = $(VENV)/.ready
EXPORT = $(if $(LASAGNE),PYTHONPATH="$(abspath $(LASAGNE))$${PYTHONPATH:+:$$PYTHONPATH}")
WORKERS = 2
PYTEST = python -m pytest -n $(WORKERS) --dist worksteal
COVER =
GPU_TESTS = gpu and not slow

# runs what follows -- on a device, which must be there for the tests
GPU = $(EXPORT) WNORM_GPU_REQUIRED=1 $(BIN)/python -m wnorm gpu

.PHONY: demo test test-slow test-all test-torch test-sanitize docs bench \
        bench-mpi doctor gpu test-gpu test-opencl check-cudnn gpu-bundle clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(EXPORT) $(BIN)/python examples/digits.py --out demo

test: $(READY)
	$(EXPORT) $(BIN)/$(PYTEST) -m "not slow and not gpu and not torch" $(COVER)

test-slow: $(READY)
	$(EXPORT) $(BIN)/$(PYTEST) -m "slow and not gpu and not torch"

# on the default interpreter and Lasagne; it takes half as long again
test-all: COVER = $(if $(LASAGNE)$(filter-out python3,$(PYTHON)),,--cov --cov-report=term)
test-all: test test-slow

test-torch: $(READY)
	$(BIN)/python -m pip install --quiet --constraint requirements.txt --editable '.[torch]'
	$(EXPORT) $(BIN)/$(PYTEST) -m torch

# it imports the real Theano and Lasagne; the links to others are not fetched
docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint requirements.txt --editable '.[docs]'
	$(EXPORT) $(BIN)/python -m sphinx -W --keep-going -q docs build/docs
	@echo "build/docs/index.html"

bench: $(READY)
	$(EXPORT) $(BIN)/python benchmarks --out bench $(BENCH)

# mpi4py and mpich are among what the tests need
bench-mpi: $(READY)
	$(EXPORT) $(BIN)/python benchmarks --parts mpi --out bench $(BENCH)

# first that they find what is planted
test-sanitize: $(READY)
	$(EXPORT) $(BIN)/python -m pytest tests/ops/test_sanitize.py
	$(EXPORT) $(BIN)/python tests/ops/sanitize.py \
	  -m pytest --capture=sys -m compiled

doctor: $(READY)
	$(EXPORT) $(BIN)/python -m wnorm doctor

# requirements.txt: of what is fetched with pip
gpu: $(READY)
	PIP_CONSTRAINT=requirements.txt $(BIN)/python -m wnorm gpu-setup

test-gpu: gpu
	$(GPU) -- $(PYTEST) -m gpu

test-opencl: $(READY)
	PIP_CONSTRAINT=requirements.txt $(BIN)/python -m wnorm gpu-setup --opencl
	$(GPU) --opencl -- $(PYTEST) -m "$(GPU_TESTS)"

check-cudnn: $(READY)
	$(BIN)/python tests/cuda/check.py

gpu-bundle: $(READY)
	$(BIN)/python bundle/build.py

# The check comes first: nothing is downloaded to a machine that lacks a tool.
$(READY): setup.py pyproject.toml requirements.txt wnorm.pth wnorm/stack/preflight.py
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is missing: install Python 3.8 to 3.11" \
	       "(Debian, Ubuntu: apt-get install python3 python3-venv python3-dev)" >&2; \
	  exit 1; }
	@$(PYTHON) wnorm/stack/preflight.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv* .cache .coverage* .pytest_cache build dist *.egg-info demo bench \
	  digits_mpi wnorm-log
