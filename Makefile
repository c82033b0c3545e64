# The two commands of the README, each doing all the set-up it needs on a fresh machine.
.PHONY: demo test lint format screenshots ohif site bench-receive soak sbom clean

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

demo: $(STAMP)
	$(BIN)/diffmsr-node demo

test: $(STAMP) lint
	bash tests/install-peers.sh
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pictures of the page in the documentation, from a running node with the demonstration's study.
screenshots: $(STAMP)
	bash tests/install-peers.sh
	$(BIN)/python -m tests.web.screenshots docs/screenshots

# A stock build of OHIF (48 MB, by npm) shows source and result of a node side by side, in ohif.png.
ohif: $(STAMP)
	bash tests/install-peers.sh
	mkdir -p .ohif && cd .ohif && npm pack --silent @ohif/app@3.12 && tar xzf ohif-app-*.tgz
	$(BIN)/python -m tests.web.ohif .ohif/package/dist ohif.png

site: $(STAMP)
	$(BIN)/mkdocs build --quiet

# The figures of docs/performance.md, beside Orthanc and dcmtk.
bench-receive: $(STAMP)
	bash tests/install-peers.sh
	$(BIN)/python -m tests.bench.receive

# What tests do a few times, many times: docs/reliability.md. It takes about a day, and root for network namespaces and a volume.
soak: $(STAMP)
	STOPS=200 $(BIN)/python -m pytest -o timeout=0 tests/unit/node/test_service.py -k every_stop
	HOSTILE_EXAMPLES=100000 $(BIN)/python -m pytest -o timeout=0 tests/hostile/test_conversations.py
	$(BIN)/python -m tests.chaos --seed 1 --kills 200
	$(BIN)/python -m tests.power
	$(BIN)/python -m tests.retention --studies 10000 --volume-mb 2000
	$(BIN)/python -m tests.hosts
	$(BIN)/python -m tests.hosts.throughput
	$(BIN)/python -m tests.fuzz --data-sets 100000
	$(BIN)/python -m tests.bench.endurance --associations 10000
	DRAWN_STUDIES=2000 $(BIN)/python -m pytest -o timeout=0 tests/unit/node/match/test_drawn_studies.py

# A CycloneDX list of what the node needs to run, as it is installed here: an environment that has only the metadata of that.
sbom: $(STAMP)
	$(PYTHON) -m venv --clear --without-pip .venv-sbom/node
	$(BIN)/python deploy/runtime_metadata.py .venv-sbom/node/lib/python*/site-packages
	test -x .venv-sbom/tool/bin/cyclonedx-py || { $(PYTHON) -m venv .venv-sbom/tool && .venv-sbom/tool/bin/pip install --quiet cyclonedx-bom; }
	.venv-sbom/tool/bin/cyclonedx-py environment .venv-sbom/node --pyproject pyproject.toml --output-reproducible --output-file sbom.cdx.json

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "DiffMSR node needs Python 3.11 or newer; name one with: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[train,test]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .venv-sbom .ohif demo-output ohif.png sbom.cdx.json
