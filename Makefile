# make distill   set up on first use, then run the main notebook
# make test      lint, types, unit tests and every notebook
# make check     lint, types and the fast unit tests
# make lint      ruff, mypy, and which module may import which
# make site      the course, the guides and the reference as a site, in site/
# make lab       open the course in JupyterLab
# make fuzz      look for inputs that break the readers of photos, weights and exports, FUZZ_SECONDS (600) each
# make soak      kill trainings and workers and damage files for nine minutes; results/reliability.json
# make notebooks execute the notebooks in place, to store their outputs

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: setup distill test check lint site docs lab fuzz soak notebooks
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Installing PyTorch, JupyterLab and the rest (a few GB on Linux, once) …"
	$(BIN)/python -m pip install --quiet --progress-bar on -c constraints.txt -e '.[dev]'
	@touch $@

distill: $(READY)
	@mkdir -p runs
	$(BIN)/papermill --log-output notebooks/04_distill.ipynb runs/04_distill.ipynb -p epochs 40 -p control False
	@echo
	@for part in student.safetensors metrics.json history.csv before_after.png; do \
		test -s runs/04_distill/$$part || { echo "runs/04_distill/$$part is missing"; exit 1; }; done
	@echo "student    runs/04_distill/student.safetensors"
	@echo "metrics    runs/04_distill/metrics.json and history.csv"
	@echo "picture    runs/04_distill/before_after.png"
	@echo "notebook   runs/04_distill.ipynb"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One thread for each of the two workers: four threads on two cores are several times slower. Files come in the order
# that tests/conftest.py gives them, the longest first.
PYTEST := OMP_NUM_THREADS=1 KDLIB_RUNS="$$(mktemp -d)" $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

# TRAININGS=full trains in every notebook for as long as a reader would; see notebooks/conftest.py.
TRAININGS ?= short
test: lint
	KDLIB_TRAININGS=$(TRAININGS) $(PYTEST) -m "not exhaustive" --nbval --nbval-current-env --nbval-cell-timeout=900 tests notebooks

check: lint
	$(PYTEST) -m "not slow" tests

# KDLIB_REPOSITORY=https://… adds buttons that open a lesson in Colab and Binder, KDLIB_CHECK_WEB=true follows links to
# other hosts.
docs: site

site: $(READY)
	$(BIN)/mkdocs build --strict

FUZZ_SECONDS ?= 600
fuzz: $(READY)
	$(BIN)/python -m tests.reliability.mutations --seconds $(FUZZ_SECONDS)
	$(BIN)/python -m tests.fuzz.photos --seconds $(FUZZ_SECONDS)
	$(BIN)/python -m tests.fuzz.weights --seconds $(FUZZ_SECONDS)
	$(BIN)/python -m tests.fuzz.exported --seconds $(FUZZ_SECONDS)

soak: $(READY)
	$(BIN)/python -m tests.reliability --out results/reliability.json

lab: $(READY)
	$(BIN)/jupyter lab notebooks

notebooks: $(READY)
	$(BIN)/python notebooks/refresh.py
