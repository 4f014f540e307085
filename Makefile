# Everything that can be done with this book is one of these targets, and each first sets up
# what it needs. `make` alone lists them.

# Any Python from 3.11 on will do; `make book PYTHON=...` takes a particular one.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	echo $$python && break; done)

VENV := .venv
RUN := $(VENV)/bin/python
# What the pages need is installed first; the rest is when a chapter is to be run or checked.
PAGES_SETUP := $(VENV)/.pages
SETUP := $(VENV)/.set-up
INSTALL := $(RUN) -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt
# Pip would compile file after file on one core. Some packages carry files that are no Python. The
# pages need a tenth of what is installed, and the first build compiles that by itself.
COMPILE := $(RUN) -m compileall -qq -j 0 $(VENV)/lib || true
HTML := _build/html
PORT ?= 8000
BUILT := $(HTML)/.built

# What a page is made from, and what changes every page.
PAGES := $(shell find book mfbook -type f ! -path '*/.*' ! -path '*/__pycache__/*' 2>/dev/null) \
	$(wildcard tools/wheel.py tools/downloads.py tools/myst.py)
HOUSE := _config.yml _toc.yml $(wildcard pyproject.toml CITATION.cff tools/sphinx_*.py) \
	$(wildcard $(addprefix tools/,citation.py elements.py listings.py mathematics.py statements.py)) \
	$(shell find book/_static -type f)

# A terminal that knows ASCII only is no reason to fail: what it cannot show is written as \u2192.
# The encoding may be empty, which means the terminal's own, also where one make calls another: the
# letter keeps what is before the colon a word.
PYTHONIOENCODING := $(patsubst x%,%,$(firstword $(subst :, ,x$(PYTHONIOENCODING)))):backslashreplace
export PYTHONIOENCODING

# What binds the pages into one book.
BINDERY := $(wildcard $(addprefix tools/,bound.py typeset.py pdf.py epub.py print_styles/*))

.DEFAULT_GOAL := help
.PHONY: help book pdf epub wheel release serve test quick chapter lab execute bench coverage lock clean
.DELETE_ON_ERROR:

help:
	@echo 'make book      build the web book from the stored outputs and say which page to open'
	@echo 'make serve     build it and show it at http://127.0.0.1:8000 (or PORT=...), where the search'
	@echo '               shows the sentences that it finds'
	@echo 'make pdf       print the whole book as _build/mfbook.pdf (with a Chromium)'
	@echo 'make epub      bind it for readers of electronic books, as _build/mfbook.epub'
	@echo 'make wheel     build the package that a downloaded chapter needs, with all that it reads'
	@echo 'make release   build what is archived of a version, from the last commit: source, package,'
	@echo '               pages, PDF, EPUB, with checksums; the same commit gives the same bytes'
	@echo 'make test      check everything: style, package, book, every stored output, every page'
	@echo 'make quick     check in half a minute what you changed since the last commit (BASE=... for'
	@echo '               another one): style, and the tests that reach it (ALL=1 with slow ones)'
	@echo 'make chapter CHAPTER=data/graph'
	@echo '               run this chapter, compare it, build its page and look at it'
	@echo 'make lab       open the chapters as notebooks in JupyterLab, in a copy under _build/lab'
	@echo '               that is yours to run and change (LAB="..." for options of JupyterLab)'
	@echo 'make execute   run again the chapters whose code changed, and store their outputs'
	@echo '               (CHAPTERS="data/graph welcome" for these only, ALL=1 for all)'
	@echo 'make bench     run the benchmarks, write benchmarks/results.md, and say which counts are no'
	@echo '               longer those of the last commit (TABLES="scales nuclear" for these only)'
	@echo 'make coverage  say which lines of the package neither a test nor a chapter runs'
	@echo 'make lock      write constraints.txt again after a change of what is required'
	@echo 'make clean     remove everything built, but not the notebooks that you changed'

$(PAGES_SETUP): requirements-pages.txt constraints.txt
	@test -w . || { echo 'This folder cannot be written to, and the book is built inside it:' \
		'copy it to where you can write, and run make there.' >&2; exit 1; }
	@test -n "$(PYTHON)" || { echo 'This book needs Python 3.11 or newer, and none was found.' \
		'Install one, or name it: make book PYTHON=/path/to/python3' >&2; exit 1; }
	@echo 'Setting up .venv for the pages: a minute the first time.'
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo 'Python has no working venv module; on Debian: apt install python3-venv' >&2; exit 1; }
	$(INSTALL) -r requirements-pages.txt
	@touch $@

# The package is installed as it stands here, so only a change of its description needs this.
$(SETUP): $(PAGES_SETUP) requirements.txt pyproject.toml
	@echo 'Setting up .venv for running chapters: some minutes the first time.'
	$(INSTALL) -r requirements.txt
	@$(COMPILE)
	@$(INSTALL) --quiet --no-deps --no-build-isolation -e .
	@$(RUN) -m pip check
	@touch $@

# A change of the house (configuration, table of contents, style) touches pages that Sphinx
# believes unchanged, and a warning is given only when a page is read: so begin anew after the
# one and after a failure.
_build/.house: $(HOUSE) $(PAGES_SETUP)
	@rm -rf _build/html _build/.doctrees
	@mkdir -p _build && touch $@

$(BUILT): $(PAGES) _build/.house
	@PYTHONPATH=. $(VENV)/bin/jupyter-book build . -W --keep-going --quiet >/dev/null || { rm -f _build/.house; exit 1; }
	@touch $@

book: $(BUILT)
	@echo "The book is built. Open $(CURDIR)/$(HTML)/index.html"

wheel: $(PAGES_SETUP)
	@$(RUN) tools/wheel.py

release: $(SETUP)
	@$(RUN) tools/release.py

serve: $(BUILT)
	@echo 'The book is at http://127.0.0.1:$(PORT)/ until you press Ctrl-C.'
	@$(RUN) -m http.server --bind 127.0.0.1 --directory $(HTML) $(PORT)

pdf epub: %: _build/mfbook.%
	@echo "The book is bound. Open $(CURDIR)/$<"

_build/mfbook.pdf _build/mfbook.epub: _build/mfbook.%: $(BUILT) $(SETUP) $(BINDERY)
	@$(RUN) tools/browser.py >/dev/null
	@$(RUN) tools/$*.py

test: $(SETUP)
	@$(RUN) tools/run_tests.py

quick: $(SETUP)
	@$(RUN) tools/quick.py $(if $(BASE),--base $(BASE)) $(if $(ALL),--all)

chapter: $(SETUP)
	@$(RUN) tools/check_chapter.py $(CHAPTER)

# A notebook that runs is saved again with its outputs, so JupyterLab gets a copy.
lab: $(SETUP)
	@$(RUN) tools/lab.py $(LAB)

execute: $(SETUP)
	@$(RUN) tools/execute.py $(if $(ALL),--all) $(CHAPTERS)

bench: $(SETUP)
	@$(RUN) -m benchmarks $(TABLES)

coverage: $(SETUP)
	@$(RUN) tools/cover.py

# A fresh environment resolves requirements.txt alone. Builds of torch add a local label such as
# +cpu, which no other machine would find.
lock:
	@rm -rf _build/lock && $(PYTHON) -m venv _build/lock
	_build/lock/bin/python -m pip install --disable-pip-version-check -r requirements.txt
	@_build/lock/bin/python -m pip check
	@{ echo '# The whole resolved set of what is required, written by `make lock`.'; \
		_build/lock/bin/python -m pip freeze --all --exclude pip | sed 's/+[A-Za-z0-9.]*$$//'; } > constraints.txt
	@rm -rf _build/lock

clean:
	@find _build -mindepth 1 -maxdepth 1 ! -name lab -exec rm -rf {} + 2>/dev/null || true
	@if test -d _build/lab; then echo 'Kept: _build/lab, your copy of the notebooks.'; fi
