# One environment, .venv; nothing but packages is fetched.
PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.13,$(shell python$(v) -V >/dev/null 2>&1 && echo python$(v))) python3)
PYTHON311 ?= python3.11
BIN := .venv/bin
DATA ?=
OUTPUT ?= demo

.PHONY: all demo test test-full label test-label lint clean

all: .venv/.installed

.venv/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"error: $(PYTHON) is Python {v[0]}.{v[1]}; 3.11 to 3.13 is needed: make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "error: no virtual environment could be made; on Debian and Ubuntu install python3-venv"; exit 1; }
	$(BIN)/python -m pip install -q -r requirements.txt
	$(BIN)/python -m pip install -q --no-deps -e .
	@touch $@

# Phantoms, or with DATA=<QaTa-COV19-v2 folder> a subset of real images: trained, evaluated, run on a folder.
demo: .venv/.installed
	$(BIN)/python -m tools demo --output "$(OUTPUT)" $(if $(DATA),--data "$(DATA)")

test: .venv/.installed lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not full"

# Slow tests and property tests at full depth too.
test-full: .venv/.installed lint
	HYPOTHESIS_PROFILE=full $(BIN)/python -m pytest -n 2 --dist loadfile

# MONAI Label, in an environment of its own; it needs Python 3.11.
label: .venv-label/.installed

.venv-label/.installed: requirements.txt requirements-label.txt requirements-label-nodeps.txt pyproject.toml
	@test -x .venv-label/bin/pip || $(PYTHON311) -m venv .venv-label
	.venv-label/bin/python -m pip install -q -r requirements-label.txt
	.venv-label/bin/python -m pip install -q --no-deps -r requirements-label-nodeps.txt -e .
	@touch $@

# Servers on loopback; with Debian's orthanc, orthanc-dicomweb and dcmtk a DICOMweb store, too.
test-label: .venv-label/.installed
	OMP_NUM_THREADS=1 .venv-label/bin/python -m pytest tests/common/serving/label

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-timestamps 2>/dev/null || $(BIN)/lint-imports

clean:
	rm -rf .venv .venv-label build dist *.egg-info demo
