# All Python packages are installed in .venv in this folder.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODE := airflow_provider_reportrun example_dags tests scripts
TYPED := $(wildcard airflow_provider_reportrun example_dags scripts tests/typing/*.py)

# Bytecode makes each start of Airflow seconds faster; the other variables would point outside .venv.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV
export UV_PYTHON_DOWNLOADS := never

INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make requirements"

# The tests need these in newer versions than existed on the day of the oldest Airflow.
EVER_NEWER := $(patsubst %,--exclude-newer-package %=false,pytest pytest-cov)

# How many tests run at once.
WORKERS ?= auto

# A stamp is touched after a set-up, so make repeats the set-up only if its inputs change.
UV := $(VENV)/.stamp-uv
DEV := $(VENV)/.stamp-dev
DEMO := $(if $(wildcard $(DEV)),$(DEV),$(VENV)/.stamp-demo)

# $(call option,FAIL_NEXT) is --fail-next 3 after FAIL_NEXT=3, and nothing without it.
option = $(if $($1),--$(subst _,-,$(shell echo $1 | tr A-Z a-z)) "$($1)")

.PHONY: help demo test lint types requirements wheel clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

demo: $(DEMO) ## run a weekly report against the offline sandbox (half a minute; API=v1, API=v2.data)
	@$(BIN)/python scripts/demo.py $(if $(API),--api "$(API)")

.PHONY: standalone
standalone: $(DEMO) $(VENV)/.stamp-postgresql $(VENV)/.stamp-examples ## start an Airflow with its UI and the sandbox, or go on with it (PORT=8080, FRESH=1)
	@$(BIN)/python scripts/standalone.py $(if $(FRESH),--fresh) $(foreach name,PORT FOLDER \
		FAIL_NEXT CONCURRENCY RUN_SECONDS DATA_LAG,$(call option,$(name))) $(ARGS)

test: lint types ## check everything: lint, types, tests, 95 % of branches covered
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup --cov --cov-report=term-missing:skip-covered

lint: $(DEV) ## check style, format, spelling, project file and workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell $(wildcard $(CODE) benchmarks *.md docs)
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows $(wildcard .github/workflows/*.yml)
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms \
		$(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/zizmor --quiet --offline --persona pedantic .github

types: $(DEV) ## check types
	$(BIN)/mypy --strict $(TYPED)

requirements: $(UV) ## pin again after a change of pyproject.toml or requirements/*.in (ARGS=--upgrade: newest)
	$(COMPILE) $(ARGS) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) $(ARGS) pyproject.toml requirements/demo.in requirements/postgresql.in --extra s3 \
		--group dev -o requirements/dev.txt
	$(COMPILE) $(ARGS) pyproject.toml requirements/demo.in -c requirements/dev.txt -o requirements/demo.txt
	$(COMPILE) $(ARGS) requirements/postgresql.in -c requirements/dev.txt -o requirements/postgresql.txt
	$(COMPILE) $(ARGS) requirements/examples.in -c requirements/dev.txt -o requirements/examples.txt
	$(COMPILE) $(ARGS) requirements/system.in -c requirements/dev.txt -o requirements/system.txt
	$(COMPILE:3.10=3.11) $(ARGS) pyproject.toml requirements/demo.in requirements/docs.in -c requirements/dev.txt \
		-o requirements/docs.txt
	$(COMPILE) $(ARGS) requirements/release.in -c requirements/dev.txt -o requirements/release.txt
	$(COMPILE) $(ARGS) pyproject.toml requirements/demo.in --all-extras -o requirements/extras.txt
	$(COMPILE) $(ARGS) pyproject.toml requirements/demo.in requirements/bench.in -o requirements/bench.txt
	$(COMPILE) $(ARGS) requirements/stores.in -c requirements/dev.txt -o requirements/stores.txt
	$(COMPILE) $(ARGS) --no-deps requirements/providers.in -o requirements/providers.txt
	$(COMPILE) $(ARGS) requirements/browser.in -c requirements/dev.txt -o requirements/browser.txt
	for file in requirements/airflow-*.in; do \
		$(COMPILE) $(ARGS) --exclude-newer "$$(sed -n 's/^# exclude-newer: //p' $$file)" $(EVER_NEWER) \
			pyproject.toml $$file --extra s3 --group tests -o $${file%.in}.txt || exit; \
	done

# Redis is installed if it is missing and root runs this, and is not started (RUNLEVEL=1). Without it,
# the tests that need it are skipped with a reason.
.PHONY: system-test
system-test: $(DEV) $(VENV)/.stamp-system ## run backfills in real Airflows, with kill -9 (16 minutes; ONLY=short: 2)
	@if ! command -v redis-server >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
			apt-get -qq install --yes --no-install-recommends redis-server; fi
	$(BIN)/pytest -m system -rP $(if $(ONLY),tests/system/test_$(ONLY).py,tests/system)

.PHONY: store-test
store-test: $(DEV) $(VENV)/.stamp-providers $(VENV)/.stamp-azurite ## land in servers for Azure, GCS and SFTP, and 300 MB in each store; make loaders of warehouses
	@if ! [ -x /usr/sbin/sshd ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
			apt-get -qq install --yes --no-install-recommends openssh-server; fi
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m stores tests/landing tests/test_loading.py

# Chromium is installed if it is missing and root runs this. Without it, the tests are skipped.
.PHONY: browser-test screenshots
browser-test: $(DEV) $(VENV)/.stamp-browser ## click through a real Airflow in a browser (six minutes)
	@if ! command -v chromium >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
			apt-get -qq install --yes --no-install-recommends chromium fonts-dejavu-core; fi
	$(BIN)/pytest -m browser tests/browser

screenshots: export REPORTRUN_SCREENSHOTS := docs/images
screenshots: browser-test ## take the pictures of docs/images again

.PHONY: matrix
matrix: $(DEV) ## run the tests on every supported Airflow with every installed Python (see CONTRIBUTING.md)
	$(BIN)/nox $(ARGS)

.PHONY: bench
bench: $(VENV)/.stamp-bench ## measure against bounds and alternatives (ONLY="backfill" runs one)
	@$(BIN)/python -m benchmarks $(ONLY)

.PHONY: docs
docs: $(VENV)/.stamp-docs ## build the site of the docs into build/docs (Python 3.11 or newer)
	$(BIN)/python -m sphinx -E -W --keep-going -n -q -d build/doctrees -c docs . build/docs

wheel: $(DEMO) ## build the wheel into dist/
	$(BIN)/hatchling build -t wheel -d dist

.PHONY: release-check
release-check: $(DEMO) $(VENV)/.stamp-release ## build dist/ and check that it is ready for release (TAG=v1.2.3: also the tag)
	@$(BIN)/python scripts/release_check.py $(if $(TAG),--tag "$$TAG")

clean: ## remove what the other targets created
	rm -rf $(VENV) .nox .demo .standalone dist build .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache
	find $(wildcard $(CODE)) -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV): requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Python 3.10 or newer is needed: run make PYTHON=python3.12 ..., or another such" \
			"version. '$(PYTHON)' is too old or does not run." >&2; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Without their dependencies: see requirements/providers.in.
$(VENV)/.stamp-providers: requirements/providers.txt $(VENV)/.stamp-stores
	@$(INSTALL) --require-hashes --no-deps -r $<
	@touch $@

$(VENV)/.stamp-azurite: $(wildcard tests/landing/azurite/*.json) $(VENV)/.stamp-stores
	@echo "Installing Azurite into $(VENV)/azurite ..."
	@mkdir -p $(VENV)/azurite && cp tests/landing/azurite/*.json $(VENV)/azurite
	@PATH=$(CURDIR)/$(BIN):$$PATH npm ci --prefix $(VENV)/azurite --ignore-scripts --no-audit \
		--no-fund --loglevel=error
	@touch $@

$(VENV)/.stamp-%: requirements/%.txt pyproject.toml $(UV)
	@echo "Installing requirements/$*.txt into $(VENV) ..."
	@$(INSTALL) --require-hashes -r $<
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
