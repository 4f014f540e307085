"""The book can be cited: one version everywhere, and a reference on every page."""

import re
import subprocess
import sys
import tomllib
from datetime import date
from itertools import product

import pytest
import yaml
from bs4 import BeautifulSoup
from pybtex.database import parse_file, parse_string

from tools.chapters import ROOT
from tools.citation import Page

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
PAPER = (ROOT / "paper.md").read_text("utf-8")


def test_there_is_one_version_and_its_date():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert CITATION["version"] == project["version"]
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## (\d\S*) \((\d{4}-\d\d-\d\d)\)$", changes, re.M)
    assert released[0] == (CITATION["version"], CITATION["date-released"])
    date.fromisoformat(CITATION["date-released"])


def test_the_citation_file_names_what_its_schema_asks_for():
    """The schema itself, of version 1.2.0, was checked by hand with cffconvert."""
    assert {"cff-version", "message", "title", "authors"} <= CITATION.keys()
    assert CITATION["cff-version"] == "1.2.0"
    assert all(one.keys() & {"name", "family-names"} for one in CITATION["authors"])
    for work in CITATION["references"]:
        assert {"type", "title", "authors", "year", "doi"} <= work.keys()


def test_a_page_is_cited_with_its_title_version_and_place():
    page = Page("data/graph", "Rows & columns: 100 %", "https://example.org/book/data/graph.html")
    version, year = CITATION["version"], CITATION["date-released"][:4]
    assert page.text() == (
        f"mfbook contributors ({year}). Rows & columns: 100 %. In *What gradient flow chooses*, "
        f"version {version}. https://example.org/book/data/graph.html"
    )
    (key,), (entry,) = zip(*parse_string(page.bibtex(), "bibtex").entries.items(), strict=True)
    assert key == "mfbook-data-graph"
    assert entry.fields["title"] == r"{Rows \& columns: 100 \%}"
    assert entry.fields["year"] == year and version in entry.fields["howpublished"]
    assert entry.fields["url"] == "https://example.org/book/data/graph.html"


def test_a_page_without_an_address_has_none():
    page = Page("welcome", "Welcome")
    assert page.text().endswith(f"version {CITATION['version']}.")
    assert "url" not in page.bibtex()


def test_tex_is_kept_from_reading_commands():
    title = parse_string(Page("x", r"a_b {c} \d ~ ^").bibtex(), "bibtex").entries["mfbook-x"]
    assert title.fields["title"] == (
        r"{a\_b \{c\} \textbackslash{}d \textasciitilde{} \textasciicircum{}}"
    )


CONF = """
import sys
sys.path.insert(0, {tools!r})
extensions = ["sphinx_cite"]
html_theme = "sphinx_book_theme"
html_theme_options = {{"repository_url": {repository!r}, "navbar_end": []}}
html_baseurl = {site!r}
"""


SITES = ["", "https://example.org/book/"]
REPOSITORIES = ["", "https://github.com/someone/mfbook"]
# Sphinx takes longer to load than to build such a book.
BUILD = """
import sys
from sphinx.cmd.build import main
sys.exit(max(main(["-q", folder, f"{folder}/html"]) for folder in sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def small_books(tmp_path_factory):
    """A page of a small book, by the address of its site and that of its repository."""
    folders = {}
    for site, repository in product(SITES, REPOSITORIES):
        folder = folders[site, repository] = tmp_path_factory.mktemp("book")
        conf = CONF.format(tools=str(ROOT / "tools"), repository=repository, site=site)
        (folder / "conf.py").write_text(conf, "utf-8")
        (folder / "index.rst").write_text("A <small> *book*\n================\n\nIt.\n", "utf-8")
        (folder / "CITATION.cff").write_bytes((ROOT / "CITATION.cff").read_bytes())
    subprocess.run([sys.executable, "-c", BUILD, *map(str, folders.values())], check=True)
    return {
        known: BeautifulSoup((folder / "html" / "index.html").read_text("utf-8"), "html.parser")
        for known, folder in folders.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("repository", REPOSITORIES)
def test_a_built_page_says_how_it_is_cited_and_links_what_is_known(small_books, site, repository):
    soup = small_books[site, repository]
    note = soup.select_one("#cite-this-page")
    (entry,) = parse_string(note.pre.text, "bibtex").entries.values()
    assert entry.fields["title"] == "{A <small> book}"
    place = "https://example.org/book/index.html" if site else repository
    assert entry.fields.get("url", "") == place
    assert [a["href"] for a in note.find_all("a")] == ([place] if place else [])
    links = {a["href"] for a in soup.find_all("a", href=True) if "github.com" in a["href"]}
    links -= {place}
    assert bool(links) == bool(repository)
    if repository:
        assert any(link.startswith(f"{repository}/issues/new") for link in links)
        assert any(link.startswith(f"{repository}/blob/main/index.rst") for link in links)


def test_the_paper_cites_what_the_book_cites():
    ours = parse_file(ROOT / "paper.bib").entries
    books = parse_file(ROOT / "book" / "references.bib").entries
    assert all(books[key].fields == entry.fields for key, entry in ours.items())
    assert set(re.findall(r"@([a-z]+\d*)", PAPER.split("---", 2)[2])) == set(ours)


def test_the_paper_has_what_journals_ask_for():
    head = yaml.safe_load(PAPER.split("---")[1])
    assert {"title", "tags", "authors", "affiliations", "date", "bibliography"} <= head.keys()
    assert (ROOT / head["bibliography"]).is_file()
    sections = re.findall(r"^# (.+)$", PAPER, re.M)
    assert sections == ["Summary", "Statement of need", "What is new", "References"]
    words = len(PAPER.split("---", 2)[2].split())
    assert 250 <= words <= 1000
