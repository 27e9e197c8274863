# Each target is complete on a fresh machine with Python 3.11+ and pip: it makes .venv first.
PYTHON ?= python3
BIN := .venv/bin

# A peer of benchmarks/streaming.py. torchvision and torchaudio have no CPU builds for this torch: empty stand-ins.
.venv/mds: .venv/ready benchmarks/peers/mds.txt
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/peers/mds.txt
	$(BIN)/python benchmarks/peers/ours.py $@ torchvision

# A peer of benchmarks/patches.py.
.venv/torchio: .venv/ready benchmarks/peers/torchio.txt
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/peers/torchio.txt
	$(BIN)/python benchmarks/peers/ours.py $@

# A peer of benchmarks/dicom.py.
.venv/dicom2nifti: .venv/ready benchmarks/peers/dicom2nifti.txt
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/peers/dicom2nifti.txt

.PHONY: demo test lint types fuzz crash bench docs schemas clean

.venv/ready: pyproject.toml hatch_build.py harmonize/store/_kernels.c constraints.txt tests/object_store/moto.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[torch,dev]' -c constraints.txt
	$(PYTHON) -m venv .venv/moto # on its own: botocore asks for an older python-dateutil than constraints.txt has
	.venv/moto/bin/pip install --quiet --disable-pip-version-check -r tests/object_store/moto.txt
	touch $@

demo: .venv/ready
	rm -rf demo-out
	$(BIN)/harmonize demo demo-out

test: lint types
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/ready
	$(BIN)/mypy

fuzz: .venv/ready
	PYTHONPATH=tests $(BIN)/python -m fuzz

crash: .venv/ready
	PYTHONPATH=tests $(BIN)/python -m crash

bench: .venv/ready .venv/mds .venv/dicom2nifti .venv/torchio
	$(BIN)/python -m benchmarks.run

docs: .venv/ready
	$(BIN)/harmonize schema --write schemas/json
	$(BIN)/python docs/vocabularies.py
	$(BIN)/python docs/recipes.py
	$(BIN)/python docs/judges.py
	$(BIN)/python docs/dicom.py

schemas: docs

clean:
	rm -rf .venv demo-out
