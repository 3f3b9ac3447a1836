# `make demo` and `make test` do all their own set-up; they need Python 3.11 and make.
PYTHON ?= python3.11
VENV := .venv
PY := $(VENV)/bin/python
AS_ROOT := $(shell test "$$(id -u)" = 0 || echo sudo)

.PHONY: help install compiler demo test test-real torture check audit sbom lock clean

help:
	@echo "make demo    environment, then train, qat, convert and bench on built-in images"
	@echo "make test    environment, then the core tests"
	@echo "make test-real  the vendors' compilers, installed and asked for real"
	@echo "make torture commands killed at any moment, disks that fail at any write (an hour; SEED= MOMENTS= ONLY=train,qat)"
	@echo "make install environment only (.venv)"
	@echo "make check   style, types and sizes"
	@echo "make audit   known vulnerabilities of the pinned packages (needs PyPI)"
	@echo "make sbom    sbom.json, a CycloneDX bill of materials"
	@echo "make lock    requirements*.txt from requirements*.in (needs uv)"

install: $(VENV)/.installed

$(VENV)/.installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "make: $(PYTHON) is not Python 3.11: name one with make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements.txt -r requirements-dev.txt
	touch $@

demo: install
	$(PY) cli.py qat --run runs/demo
	$(PY) cli.py convert --run runs/demo --target cpu
	$(PY) cli.py bench --run runs/demo --target cpu --device

compiler:
	command -v cc >/dev/null || { $(AS_ROOT) apt-get -qq update && $(AS_ROOT) apt-get -qq -y install gcc libc6-dev; } \
		|| echo "make: no C compiler, so the tests of C code are skipped"

test: install compiler
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not real"

test-real: install compiler
	$(PY) -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-ethos.txt \
		-r requirements-qualcomm.txt -r requirements-openvino.txt -r requirements-web.txt -r requirements-video.txt \
		-r requirements-cluster.txt
	test -x /usr/sbin/sshd || { $(AS_ROOT) apt-get -qq update && $(AS_ROOT) apt-get -qq -y install openssh-server openssh-client; } \
		|| echo "make: no ssh server, so its tests are skipped"
	command -v adb >/dev/null || { $(AS_ROOT) apt-get -qq update && $(AS_ROOT) apt-get -qq -y install adb; } \
		|| echo "make: no adb, so its tests are skipped"
	tests/support/adbd.sh .adbd || echo "make: no adbd, so its tests are skipped"
	PYTHON=$(PY) tests/support/arm64.sh .arm64 || echo "make: no ARM64 userland, so its tests are skipped"
	command -v chromium >/dev/null && /sbin/ldconfig -p | grep -q libvulkan.so.1 || \
		{ $(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install -y -qq --no-install-recommends libvulkan1 chromium; } \
		|| echo "make: no Chromium or Vulkan, so their tests are skipped"
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" npm ci --silent --prefix web || echo "make: no LiteRT.js, so its tests are skipped"
	command -v g++ >/dev/null || { $(AS_ROOT) apt-get -qq update && $(AS_ROOT) apt-get -qq -y install g++ make; } \
		|| echo "make: no C++ compiler, so its tests are skipped"
	test -x .mediapipe/bin/python || $(PYTHON) -m venv .mediapipe
	.mediapipe/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-mediapipe.txt \
		|| echo "make: no MediaPipe, so its tests are skipped"
	test -x .jax/bin/python || $(PYTHON) -m venv .jax
	.jax/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-jax.txt \
		|| echo "make: no JAX, so its tests are skipped"
	$(PY) -m pytest -n 2 --dist loadfile -m real

# MINUTES, SEED, MOMENTS (for each command and signal), ONLY=train,qat and CASES=train:SIGKILL:change:12 choose.
torture: install compiler
	$(PY) -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-fuzz.txt \
		|| echo "make: no atheris, so files are not fuzzed guided by coverage"
	$(PY) -m tests.torture $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) \
		$(if $(MOMENTS),--moments $(MOMENTS)) $(if $(ONLY),--only $(ONLY)) $(if $(CASES),--cases $(CASES))

check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PY) -m pytest -q -p no:cacheprovider tests/test_structure.py -k short
	$(PY) docs/tables.py --check
	$(PY) docs/dependencies.py --check
	$(MAKE) --no-print-directory audit

audit: install
	@if $(PY) -c "import urllib.request as r; r.urlopen('https://pypi.org/pypi/pip/json', timeout=10)" 2>/dev/null; \
		then $(VENV)/bin/pip-audit --progress-spinner off --disable-pip --require-hashes -r requirements.txt; \
		else echo "make: PyPI cannot be reached, so known vulnerabilities were not looked for"; fi

sbom: install
	$(VENV)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file sbom.json requirements.txt

lock:
	uv pip compile -q --generate-hashes --python-version 3.11 --no-header --no-annotate requirements.in -o requirements.txt
	for name in dev cluster ethos qualcomm openvino web video fuzz; do \
		uv pip compile -q --generate-hashes --python-version 3.11 --no-header --no-annotate \
			-c requirements.txt requirements-$$name.in -o requirements-$$name.txt || exit; done
	for name in mediapipe jax peers; do \
		uv pip compile -q --generate-hashes --python-version 3.11 --no-header --no-annotate \
			requirements-$$name.in -o requirements-$$name.txt || exit; done

clean:
	rm -rf $(VENV) .torture .adbd .arm64 .mediapipe .jax .pytest_cache .mypy_cache .ruff_cache
