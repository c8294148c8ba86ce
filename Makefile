# make demo [IMAGE=path]   a polyp segmented in napari (or, without a display, in demo/)
# make test                every check of the project
# make bench               docs/benchmarks.md from the measured results
# make screenshots         the pictures of the documentation
# make docs                the documentation as a site, in site/
.PHONY: demo test lint bench screenshots docs clean

PYTHON ?= python3
BIN := .venv/bin
# system libraries that a Qt window needs on a bare Debian or Ubuntu
APT := xvfb xauth libegl1 libgl1 libgl1-mesa-dri libfontconfig1 libdbus-1-3 libxkbcommon-x11-0 libxcb-cursor0 \
	libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xkb1
DESKTOP := $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter Darwin,$(shell uname)))
# the tests draw into a display of their own: none of their windows appears on a desktop
XVFB := $$(command -v xvfb-run >/dev/null && echo xvfb-run -a)

demo: .venv/.app .venv/.system
	$(BIN)/lsegdiff demo --out demo $(if $(IMAGE),--image "$(IMAGE)")
	$(if $(DESKTOP),,$(XVFB)) $(BIN)/python -m napari_lsegdiff.demo --out demo $(if $(IMAGE),--image "$(IMAGE)") \
		$(if $(DESKTOP),,--screenshot)
	@echo "to go on: source .venv/bin/activate, then napari or lsegdiff"

# in two halves side by side, for the viewer's tests mostly wait; one thread each, or their threads would wait for one another
test: export OMP_NUM_THREADS = 1
test: .venv/.test .venv/.system lint
	@$(BIN)/python -m pytest tests/core src/lsegdiff_core & core=$$!; \
	$(XVFB) $(BIN)/python -m pytest tests --ignore=tests/core; viewer=$$?; \
	wait $$core && exit $$viewer

screenshots: .venv/.app .venv/.system
	xvfb-run -a -s "-screen 0 1400x1000x24" $(BIN)/python docs/screenshots.py

bench: .venv/.test
	$(BIN)/python benchmarks/report.py

docs: .venv/.docs
	$(BIN)/mkdocs build --strict

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.app: pyproject.toml constraints.txt | .venv/bin/python
	@echo "setting up .venv; the first time this takes a few minutes"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[all]"
	touch $@

.venv/.test: pyproject.toml constraints.txt | .venv/bin/python
	@echo "setting up .venv; the first time this takes a few minutes"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[all,test]"
	touch $@ .venv/.app

.venv/.docs: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@

# as root on Debian or Ubuntu the libraries are installed; elsewhere what is missing is said
.venv/.system: | .venv/bin/python
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		dpkg -s $(APT) >/dev/null 2>&1 || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(APT) >/dev/null; }; \
	elif [ -z "$(DESKTOP)" ] && ! command -v xvfb-run >/dev/null; then \
		echo "xvfb-run is missing; install it, on Debian or Ubuntu: sudo apt-get install $(APT)" >&2; exit 1; \
	fi
	@touch $@

clean:
	rm -rf .venv demo build site src/*.egg-info
