# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test fuzz check lint types imports docstrings format docs dist clean

install: .venv/.installed

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/acclimate demo

check: install
	@$(MAKE) --no-print-directory --jobs=4 --output-sync lint types imports docstrings

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

docstrings: install
	$(BIN)/pydoclint --quiet src

test: check
	$(BIN)/python -m pytest -n auto --dist worksteal --randomly-seed=1

# The tests in another order, with new examples for the properties.
fuzz: install
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -n auto --dist worksteal

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site of the docs, in build/site. A link that leads nowhere is an error.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.venv/.docs: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

# The files to upload, in dist.
dist: install
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist src/*.egg-info
