# Everything here runs in .venv, which `make setup` makes. Nothing is installed outside the checkout but Chromium, by `make test` as root.
.DEFAULT_GOAL := help
BIN := .venv/bin

.PHONY: help setup demo test test-fast check format bench screens clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: ## Make .venv with drivetrain and nothing heavy
	@scripts/setup.sh

demo: ## The whole loop: train, serve, roll out, take back, drift, train again, trace (ARGS=--keep leaves the server running)
	@scripts/setup.sh demo
	@$(BIN)/python examples/demo.py $(ARGS)

test: ## Run all tests, after installing what they need (ARGS='-k name' to choose)
	@scripts/setup.sh test
	@$(BIN)/python -m pytest $(ARGS)

test-fast: ## What to run at every change: the tests that start nothing, and one through a real server
	@scripts/setup.sh test
	@$(BIN)/python -m pytest -q -n logical --maxprocesses 8 --dist loadfile -m "not slow or smoke" $(ARGS)

check: ## Format, lint, types, import rules
	@scripts/setup.sh test
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: ## Format the code and mend what ruff can mend
	@scripts/setup.sh test
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: ## Benchmarks beside peers; results in benchmarks/results
	@scripts/setup.sh test bench
	@$(BIN)/python -m benchmarks $(ARGS)

screens: ## Screenshots of every page, desktop and phone, light and dark, in .screens
	@scripts/setup.sh test
	@$(BIN)/python -m tests.screens $(ARGS)

clean: ## Remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .screens
