# Everything runs in .venv, which the first target to need it sets up; see scripts/setup.sh.
#
#   make report     the main job: one folder, report/, with everything (resumes where it was stopped)
#   make test       the tests                    ARGS="-k solve" passes arguments on to pytest
#   make check      the tests and every other check, as continuous integration runs them
#
# TORCH_INDEX_URL: an extra package index to take torch from, such as one that serves its CPU builds. Empty: pip's own.

TORCH_INDEX_URL ?=
ARGS ?=
PYTHON := .venv/bin/python
ACTIVATIONS := relu tanh gelu "x*tanh(log(1+exp(x)))"

export TORCH_INDEX_URL
unexport PYTHONHOME PYTHONPATH

.PHONY: report test check lint format types imports doctest docs coverage venv clean distclean
.DEFAULT_GOAL := report

report: venv
	@sh scripts/setup.sh data
	.venv/bin/equikernel report $(ACTIVATIONS) --out report

test: venv
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --maxprocesses=4 --dist=loadfile $(ARGS)

check:
	bash .ci/run

lint: venv
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format: venv
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

types: venv
	$(PYTHON) -m mypy

imports: venv
	.venv/bin/lint-imports --no-logo

# A closing ``` right under a doctest would be taken for its output: leave a blank line before it.
doctest: venv
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --maxprocesses=4 --dist=loadfile --doctest-modules --doctest-glob='*.md' equikernel README.md $(wildcard docs/*.md)

docs: venv
	$(PYTHON) -m sphinx -q -E -W --keep-going -b html docs docs/_build/html

coverage: venv
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --maxprocesses=4 --dist=loadfile --cov --cov-report=term $(ARGS)

venv:
	@sh scripts/setup.sh venv

clean:
	rm -rf report docs/_build build dist htmlcov .coverage .coverage.* .hypothesis .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache *.egg-info
	find equikernel tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv
