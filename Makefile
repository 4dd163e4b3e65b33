# Two commands are all there is: `make demo` and `make test`. Both set up what they need; PYTHON names Python >= 3.11.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# not --quiet: it hides warnings from --strict, too
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean --strict
# seconds: torch and its libraries are gigabytes, and mirrors stall
export UV_HTTP_TIMEOUT ?= 300

.PHONY: demo test test-quick coverage verify docs format generated requirements cluster setup clean help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## make the environment (done by every other target)

$(READY): pyproject.toml constraints.txt overrides.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --overrides overrides.txt \
		--editable '.[ml,operator,dev,docs]'
	touch $@

demo: $(READY) ## fuse three small chat models trained from real text, end to end, and show the result
	$(BIN)/python -m examples.demo

test: $(READY) ## run every test
	$(BIN)/python -m pytest tests

# what needs no cluster, no whole job and no pretrained model
QUICK := tests/unit tests/parity -m 'not slow and not real_model'

test-quick: $(READY) ## run the tests that take no cluster and no whole job: a few minutes on 2 cores
	$(BIN)/python -m pytest -q -n 2 $(QUICK)

coverage: $(READY) ## the same, with the lines and branches that they do not reach
	$(BIN)/python -m pytest -q -n 2 --cov --cov-report=term:skip-covered --cov-report=html:build/coverage $(QUICK)

verify: $(READY) ## format, lint, types, import layers, generated files, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit/tools/test_generated.py
	$(SITE)

docs: $(READY) ## build the documentation as a site, in site/
	$(SITE)

format: $(READY) ## format the code and fix what lint can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generated: $(READY) ## rebuild generated files
	$(BIN)/python -m tools.generated

COMPILE := $(BIN)/uv pip compile --quiet --constraint constraints.txt --generate-hashes --no-emit-index-url \
	--python-version 3.11 --python-platform linux --custom-compile-command 'make requirements'
SOURCE_ONLY = $(shell grep -v '^\#' images/worker/sources.in)

requirements: $(READY) ## fix what the images install, by hash, to the versions of constraints.txt
	$(COMPILE) images/tools.in --output-file images/tools.txt
	$(COMPILE) images/operator/requirements.in --output-file images/operator/requirements.txt
	$(COMPILE) --no-deps images/worker/sources.in --output-file images/worker/sources.txt
	$(COMPILE) pyproject.toml --extra ml $(addprefix --no-emit-package ,$(SOURCE_ONLY)) \
		--output-file images/worker/requirements.txt

cluster: $(READY) ## start a Kubernetes of one machine to try things on, and say how to use and end it
	$(BIN)/python -m tests.cluster up
	@echo 'Run both exports to use it with kubectl, helm and fusechat. To end it: $(BIN)/python -m tests.cluster down'

clean: ## remove the environment and the demo's outputs
	rm -rf $(VENV) .fusechat site build
