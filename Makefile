# Two commands are all there is: `make demo` and `make test`. Both set up what they need; PYTHON names Python >= 3.11.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test verify format generated setup clean help

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## make the environment (done by every other target)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt \
		--editable '.[ml,operator,dev]'
	touch $@

demo: $(READY) ## fuse three small chat models trained from real text, end to end, and show the result
	$(BIN)/python -m examples.demo

test: $(READY) ## run every test
	$(BIN)/python -m pytest tests

verify: $(READY) ## format, lint, types, import layers, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit/test_generated.py

format: $(READY) ## format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generated: $(READY) ## rebuild generated files
	$(BIN)/python -m fusechat.generated

clean: ## remove the environment and the demo's outputs
	rm -rf $(VENV) .fusechat
