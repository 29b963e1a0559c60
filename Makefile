# Every target makes .venv if it is missing and installs the pinned versions into it. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WEIGHTS := toy_models/lanpaint_toys/weights

.PHONY: help demo test hostile lint types bench benchmark mutants zoo lessons docs compatible coverage dist clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(BIN)/lanpaint: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

# Much of what is installed here is never imported; --no-compile leaves the rest to its first import.
$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	touch $(BIN)/lanpaint $@

demo: $(BIN)/lanpaint  ## inpaint emoji and real digits with the embedded models, offline
	$(BIN)/lanpaint demo

test: $(VENV)/.dev  ## the whole test suite, doctests and notebooks included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder --nbval \
		notebooks tests lanpaint toy_models  # in this order: what is long first, so no core waits at the end

hostile: $(VENV)/.dev  ## more than a thousand bad inputs, by every door; every count that it prints must be 0
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.hostile

lint: $(VENV)/.dev  ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## static types
	$(BIN)/mypy

bench: $(BIN)/lanpaint  ## cost of a step; the authors' benchmark into bench.jsonl, goes on where it was stopped (half an hour)
	$(BIN)/python -m lanpaint.cost
	$(BIN)/lanpaint bench docs/studies/authors.yaml -r bench.jsonl
	$(BIN)/lanpaint report bench.jsonl -o bench-report

benchmark: $(BIN)/lanpaint  ## every method with equal evaluations, goes on where it was stopped (hours); IMAGES=noto-emoji-128.zip for emoji
	mkdir -p benchmark/page
	$(BIN)/lanpaint bench docs/studies/neutral-exact.yaml -r benchmark/exact.jsonl
	$(BIN)/lanpaint bench docs/studies/neutral-images.yaml -r benchmark/images.jsonl
	$(BIN)/lanpaint bench docs/studies/neutral-motion.yaml -r benchmark/motion.jsonl
	test -z "$(IMAGES)" || $(BIN)/lanpaint bench docs/studies/neutral-emoji.yaml --images "$(IMAGES)" -r benchmark/emoji.jsonl
	$(BIN)/python docs/studies/neutral.py benchmark benchmark/page

mutants: $(VENV)/.dev  ## plants mistakes in the code and counts those that the tests see (two hours)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.planted
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants

zoo: $(VENV)/.dev  ## every pipeline class of diffusers that can be built small, held at its verdict (two minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.adapters.zoo --check

lessons: $(VENV)/.dev  ## the lessons run anew, with what they print and draw; `make test` compares it (three minutes)
	OMP_NUM_THREADS=1 $(BIN)/jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb
	$(BIN)/jupyter nbconvert --to notebook --inplace --coalesce-streams notebooks/*.ipynb  # what a cell prints is one block

docs: $(VENV)/.dev  ## the documentation, into docs/_build/html; warnings are errors
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	! grep -rnE '<(script|link|img)[^>]+(src|href)="(https?:)?//' docs/_build/html --include='*.html'  # no page needs a network

# The part of the tests that runs with every Python and every dependency that pyproject.toml admits.
COMPATIBLE := tests/adapters/test_bridge.py tests/test_cli.py tests/test_pictures.py tests/test_masks.py \
	tests/test_score.py tests/test_noise.py tests/test_schedules.py tests/test_plan.py tests/test_fields.py \
	tests/test_observation.py tests/dynamics tests/solvers tests/samplers/test_samplers.py

compatible:  ## core, samplers, bridge, pictures and command line in another environment: PYTHON=…/bin/python
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q $(COMPATIBLE)

coverage: $(VENV)/.dev  ## branch coverage of lanpaint by the whole test suite, processes that the tests start included
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -q -n auto --dist loadfile
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

dist: $(VENV)/.dev  ## wheels and source archives, into dist, checked as an index would; ADDRESS=https://… of the repository
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[release]'
	rm -rf build dist $(WEIGHTS)/build
	LANPAINT_SMALL=1 LANPAINT_ADDRESS='$(ADDRESS)' $(BIN)/python -m build
	$(BIN)/python -m build --outdir dist $(WEIGHTS)
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/lanpaint-*.whl
	$(BIN)/check-wheel-contents --config $(WEIGHTS)/pyproject.toml dist/lanpaint_weights-*.whl
	ls -l dist

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) build dist docs/_build *.egg-info $(WEIGHTS)/build $(WEIGHTS)/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
