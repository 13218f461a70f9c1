# Every target works on a fresh clone that has only make and Python >= 3.10: it makes .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))
EXECUTED := $(NOTEBOOKS:%=build/%)
SHOWN := $(NOTEBOOKS:%=docs/%)
PARALLEL := --numprocesses auto --dist worksteal
# Of targets that .ci/run makes beside another: one process (`make BESIDE=`), as each of them imports for ten seconds.
BESIDE = $(PARALLEL)
# Checking the types and shapes of all arguments takes as long as the tests themselves, nearly all of it below the
# analyses: `make check` does so in the tests of those rooms, and elsewhere of the analyses alone. The second words its
# checker in another way, as compiled modules are kept by these words: else it would take up those of the first, all typed.
UNTYPED := --jaxtyping-packages=
GROUND := tests/interventions tests/tracing tests/variants
ANALYSES := '--jaxtyping-packages=mechaudio.analyses,beartype.beartype(conf=beartype.BeartypeConf())'
# Every run after the first finds its modules compiled, whatever the shell says; installing leaves that to the first.
export PYTHONDONTWRITEBYTECODE :=
SOURCES := $(shell find mechaudio -name '*.py')

# A short way through every class, and through what else other packages carry: nnsight, xarray, pandas, plotly, datasets.
SHORT_WAY := tests/test_every_class.py tests/tracing/test_nnsight_contract.py tests/test_results.py \
	tests/viz/test_sweep_map.py tests/data/test_tables.py tests/temporal/test_benchmark.py
short_way = $(1)/bin/python -m pytest $(BESIDE) $(UNTYPED) $(SHORT_WAY) || { $(1)/bin/python tests/moved_packages.py; exit 1; }

.PHONY: help demo test check kernels small dist newest oldest notebooks outputs docs bench bench-each train-tiny clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed-runtime ## Trace the shipped model on a bundled recording and write a page about it
	$(BIN)/mechaudio demo
	@test -s reports/demo/index.html
	@echo "The page is reports/demo/index.html: open it in a browser."

test: how-long $(VENV)/.installed-dev ## Run the tests, of the largest matrices one of every kind
	$(BIN)/python -m pytest $(PARALLEL) $(UNTYPED) -m "not whole"

.PHONY: how-long
how-long:
	@echo "About 4 to 8 minutes on 2 cores, once all is installed; every core runs its share."
	@command -v chromium >/dev/null || echo "Some tests look at pages in a browser, and skip without: apt-get install chromium"

check: lint every-test ## Check format, lint, import contracts and types, then run all tests

.PHONY: lint every-test
lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python tests/check_types.py

every-test: $(VENV)/.installed-dev
	@echo "About 7 to 15 minutes on 2 cores."
	$(BIN)/python -m pytest $(PARALLEL) -m "not whole" $(GROUND)
	$(BIN)/python -m pytest $(PARALLEL) $(ANALYSES) -m "whole or not ground"

kernels: $(VENV)/.installed-dev ## Run the tests that promise bits as an older processor, on two threads
	@# Threads that wait must not spin: on busy cores that took most of the time.
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
		MECHAUDIO_TEST_THREADS=2 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest $(BESIDE) $(UNTYPED) -m "bits and not whole" $$(grep -rl 'mark\.bits' --include='*.py' tests)

small: $(VENV)/.installed-dev ## Fetch the parts of the model small (174 MB, once), check its weights and answers, and run a study on it
	$(BIN)/mechaudio get small
	$(BIN)/python -m pytest -q $(UNTYPED) tests/models/test_small_real.py
	$(BIN)/mechaudio evaluate --model small --n 4 --out reports/small

dist: $(VENV)/.installed-dev $(VENV)/.installed-dist ## Build sdist and wheel, and try both where this clone is out of sight
	rm -rf dist build/wheel build/mechaudio-*
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m venv --without-pip build/wheel
	$(BIN)/python -m pip --python build/wheel/bin/python install --quiet --no-deps dist/*.whl
	@# Borrow what the wheel needs; that environment's link to this clone is a .pth file, which is not followed from here.
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$(echo build/wheel/lib/python*/site-packages)/borrowed.pth
	$(BIN)/python -m pip --python build/wheel/bin/python check
	cd build/wheel && bin/python -c 'import sys, mechaudio as ma; assert ma.__file__.startswith(sys.prefix), ma.__file__'
	cd build/wheel && bin/mechaudio demo && test -s reports/demo/index.html
	tar -xzf dist/*.tar.gz -C build
	@# Every tracked file is in the sdist; in an unpacked archive nothing says which they are.
	test ! -e .git || git ls-files >build/tracked.txt
	test ! -e .git || grep -v '^\.' build/tracked.txt | sed "s|^|$$(echo build/mechaudio-*)/|" | xargs ls >/dev/null
	cd build/mechaudio-* && ../wheel/bin/python -m pytest -q $(UNTYPED) $(UNPACKED)

# The tag, the version and the changelog say the same, or nothing is uploaded. twine asks for the index's token, or takes
# it from TWINE_USERNAME and TWINE_PASSWORD.
.PHONY: tagged release
tagged:
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml); \
	say() { echo "Nothing was uploaded: $$1"; exit 1; }; \
	test -n "$(INDEX)" || say "name the index, as in make release INDEX=https://upload.pypi.org/legacy/"; \
	test -z "$$(git status --porcelain)" || say "there are changes that no commit holds"; \
	grep -q "^## \[$$version\] - 20" CHANGELOG.md || say "CHANGELOG.md has no dated section for $$version"; \
	git tag --points-at HEAD | grep -qx "v$$version" || say "tag this commit first, git tag -a v$$version"

release: tagged dist ## Upload the version that is tagged, built and tried: make release INDEX=https://upload.pypi.org/legacy/
	$(BIN)/twine upload --repository-url $(INDEX) dist/*

# What may differ where the sdist is unpacked: files of the package and beside it, names, a network, a trace. Left out
# is what `make check` has run and does not differ: all other code, and how the network answers.
UNPACKED = -m "not whole" -k "not (opening_proves_every or it_hears or it_guesses or it_believes or last_token)" \
	tests/test_packaging.py tests/test_public_names.py tests/models/test_tiny.py tests/tracing/test_trace.py

# Of another minor version than the newest: make newest TRANSFORMERS='==5.22.*'
newest: $(VENV)/.installed-dev ## Run the tests of every class with the newest packages that pyproject.toml admits, and the pinned torch
	$(BIN)/python -m venv --clear --without-pip .venv-newest
	@# Borrow what did not move since it was pinned; what is newer is installed in front of it.
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >$$(echo .venv-newest/lib/python*/site-packages)/borrowed.pth
	grep '^torch==' constraints.txt >.venv-newest/held.txt
	echo "transformers$(TRANSFORMERS)" >>.venv-newest/held.txt
	$(BIN)/python -m pip --python .venv-newest/bin/python install --quiet --no-compile --upgrade --upgrade-strategy eager \
		--constraint .venv-newest/held.txt --editable '.[dev]'
	$(call short_way,.venv-newest)

oldest: | .venv-oldest/bin/pip ## Run them with the oldest packages that it admits, and the pinned torch
	grep '^torch==' constraints.txt >.venv-oldest/torch.txt
	.venv-oldest/bin/python -m pip install --quiet uv
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct \
		--constraint .venv-oldest/torch.txt --editable '.[dev]'
	$(call short_way,.venv-oldest)

notebooks: build/notebooks/.executed in-jupyterlab ## Execute the notebooks that changed, or whose code did, and compare with the outputs that they carry
	$(BIN)/python notebooks/outputs.py $(EXECUTED)
	@echo "Executed, and as they carry it: $(notdir $(EXECUTED))"

.PHONY: in-jupyterlab
in-jupyterlab: $(VENV)/.installed-notebooks
	$(BIN)/python -m pytest -q $(UNTYPED) tests/notebook/test_explorer_in_jupyterlab.py

outputs: build/notebooks/.executed ## Execute them likewise, and have them carry what they give
	$(BIN)/python notebooks/outputs.py --write $(EXECUTED)
	@touch $<

docs: $(VENV)/.installed-docs $(SHOWN) ## Build the documentation into site, warnings being errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "The documentation is site/index.html."

bench: $(VENV)/.installed-dev ## Measure what reading and editing cost beside other tools, as one table
	$(BIN)/python benchmarks/peers.py

bench-each: $(VENV)/.installed-dev ## Measure each kind of work by itself, as the lab log tells of it
	$(BIN)/python benchmarks/trace_overhead.py
	$(BIN)/python benchmarks/sweep_cost.py
	$(BIN)/python benchmarks/generation_cost.py
	$(BIN)/python benchmarks/patching_cost.py
	$(BIN)/python benchmarks/attribution_cost.py
	$(BIN)/python benchmarks/steering_cost.py
	$(BIN)/python benchmarks/parallel_cost.py
	$(BIN)/python benchmarks/waiting_cost.py

train-tiny: $(VENV)/.installed-runtime ## Train the shipped model anew, into build/tiny: minutes on a GPU
	$(BIN)/python -m recipes.tiny.train --out build/tiny

clean: ## Remove everything that was made, except environments
	rm -rf build dist site reports docs/notebooks *.egg-info .*_cache
	find mechaudio tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# This plotly renderer leaves figures as data, which are drawn where a notebook is to carry them. One process executes
# the notebooks that changed, or all where the code did: to import the library takes longer than most of them.
build/notebooks/.executed: $(NOTEBOOKS) notebooks/execute.py $(SOURCES) $(VENV)/.installed-notebooks
	PLOTLY_RENDERER=plotly_mimetype $(BIN)/python notebooks/execute.py $(if $(filter-out $(NOTEBOOKS),$?),$(NOTEBOOKS),$?)
	@touch $@

# The documentation shows the notebooks with what they carry.
docs/notebooks/%.ipynb: notebooks/%.ipynb
	@mkdir -p docs/notebooks
	cp $< $@

# One stamp per extra of pyproject.toml; `runtime` stands for no extra.
.PRECIOUS: $(VENV)/.installed-%
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing mechaudio ($*) into $(VENV): a minute or three the first time."
	@$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.$(if $(filter-out runtime,$*),[$*])'
	@touch $@

# One pip at a time: the notebooks' own test and the sdist's need what the others do.
$(VENV)/.installed-notebooks $(VENV)/.installed-dist: | $(VENV)/.installed-dev

# What the targets of CI need, by one call of pip: half the time of one by one. JupyterLab is not among it: beside it
# every process that opens a processor takes two seconds more (mistral-common, jsonschema, and a grammar of addresses).
.PHONY: tools
tools: | $(BIN)/pip ## Install what the checks, distributions and documentation need, at once
	@echo "Installing all tools into $(VENV): a minute or two."
	@$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev,dist,docs]'
	@touch $(foreach extra,dev dist docs,$(VENV)/.installed-$(extra))

$(VENV)/bin/pip .venv-oldest/bin/pip: %/bin/pip:
	@$(PYTHON) -c 'import sys; old = sys.version_info < (3, 10); \
	old and sys.exit("mechaudio needs Python 3.10 or newer, and $(PYTHON) is %d.%d. Name another: make $(MAKECMDGOALS) PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $*
	@# Older versions of pip, which come with Python, take several times as long to choose the same versions.
	@$*/bin/python -m pip install --quiet 'pip>=25'
