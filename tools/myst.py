"""A chapter's MyST as plain Markdown, for readers of notebooks such as JupyterLab.

JupyterLab knows Markdown, TeX and some HTML, and nothing of directives, roles and captions. What
Sphinx numbers is numbered here in the same way, so that a notebook and a page name a theorem alike.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

import jupytext
import nbformat
import yaml
from pybtex.backends.plaintext import Backend
from pybtex.database import Person, parse_file
from pybtex.richtext import Text

from tools.chapters import ROOT, numbered_pages
from tools.listings import Listings
from tools.statements import statements

FENCE = re.compile(r"^(:{3,}|`{3,})\{([\w:-]+)\}[ \t]*(.*)$")
OPTION = re.compile(r"^:([\w-]+):[ \t]*(.*)$")
ROLE = re.compile(r"\{([a-z:]+)\}`([^`]+)`")
LABELLED = re.compile(r"^\$\$ *\(([\w-]+)\) *$", re.M)
DRAWING = re.compile(r'<svg [^>]*aria-label="([^"]*)"[^>]*>.*?</svg>', re.S)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)\.(md|ipynb)(#[^)\s]*)?\)")


@dataclass
class Book:
    """The order of the pages, and the name and page of everything that can be referred to."""

    root: Path = ROOT
    names: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for one in statements(self.root):
            self.names[one.label] = one.name
            self.places[one.label] = one.page
        for page, chapter in numbered_pages(self.root):
            self.count(page, chapter)

    def count(self, page: str, chapter: int | None) -> None:
        before = f"{chapter}." if chapter else ""
        counts = {"exercise": 0, "figure": 0, "equation": 0}

        def give(label: str, counter: str, form: str) -> None:
            counts[counter] += 1
            if label:
                self.names[label] = form.format(f"{before}{counts[counter]}")
                self.places[label] = page

        for cell in read(self.root / "book" / f"{page}.md").cells:
            if cell.cell_type == "code":
                figure = cell.metadata.get("mystnb", {}).get("figure", {})
                if figure:
                    give(figure.get("name", ""), "figure", "Fig. {}")
                continue
            lines = cell.source.splitlines()
            for number, line in enumerate(lines):
                if found := FENCE.match(line):
                    if found[2] == "exercise":
                        label = dict(options(lines[number + 1 :])[0]).get("label", "")
                        give(label, "exercise", "Exercise {}")
                elif found := LABELLED.match(line):
                    give(found[1], "equation", "({})")


@cache
def read(source: Path) -> nbformat.NotebookNode:
    return jupytext.read(source, fmt="md:myst")


def options(lines: list[str]) -> tuple[list[tuple[str, str]], int]:
    """The options at the head of a directive, and how many lines they take."""
    found = []
    for line in lines:
        option = OPTION.match(line)
        if not option:
            break
        found.append((option[1], option[2].strip()))
    return found, len(found)


@cache
def macros(root: Path = ROOT) -> dict[str, tuple[str, int]]:
    """The book's own TeX commands, each with what it stands for and how many arguments it has."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    given = config["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"]
    return {name: (it, 0) if isinstance(it, str) else tuple(it) for name, it in given.items()}


def argument(text: str) -> tuple[str, str]:
    """The first argument of a TeX command, without its braces, and what follows it."""
    text = text.lstrip()
    if not text.startswith("{"):
        size = re.match(r"\\[a-zA-Z]+|\\?.", text, re.S)
        return (size[0], text[size.end() :]) if size else ("", "")
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if letter in "{}" and text[place - 1 : place] == "\\":
            depth -= (letter == "{") - (letter == "}")
        if depth == 0:
            return text[1:place], text[place + 1 :]
    return text[1:], ""


def without_macros(text: str, root: Path = ROOT) -> str:
    """Write the book's own TeX commands out: a notebook has no place to define them in."""
    known = macros(root)
    command = re.compile(rf"\\({'|'.join(known)})(?![a-zA-Z])")
    done = ""
    while found := command.search(text):
        meaning, count = known[found[1]]
        rest = text[found.end() :]
        for number in range(1, count + 1):
            value, rest = argument(rest)
            meaning = meaning.replace(f"#{number}", value)
        done += text[: found.start()]
        # What stands for a command may hold others, so look there again.
        text = (f"{{{meaning}}}" if not count else meaning) + rest
    return done + text


@cache
def library(root: Path = ROOT) -> dict:
    return dict(parse_file(root / "book" / "references.bib").entries.items())


def plain(text: str) -> str:
    # Its render_as("text") would look through every installed distribution for this backend.
    return Text.from_latex(text).render(Backend())


def family(person: Person) -> str:
    return plain(" ".join([*person.prelast_names, *person.last_names]))


def authors(key: str, root: Path) -> str:
    people = [family(one) for one in library(root)[key].persons["author"]]
    return people[0] + " et al." if len(people) > 2 else " and ".join(people)


def citation(role: str, keys: str, root: Path) -> str:
    works = [(authors(key, root), library(root)[key].fields["year"]) for key in split(keys)]
    if role == "cite:t":
        return ", ".join(f"{who} ({year})" for who, year in works)
    # Square brackets as on the page, written so that no link and no formula can begin with one.
    return "&#91;" + "; ".join(f"{who}, {year}" for who, year in works) + "&#93;"


def split(keys: str) -> list[str]:
    return [key.strip() for key in keys.split(",")]


def bibliography(root: Path) -> str:
    entries = []
    for _key, entry in sorted(library(root).items(), key=lambda pair: authors(pair[0], root)):
        people = ", ".join(
            " ".join([*map(plain, [*one.first_names, *one.middle_names]), family(one)])
            for one in entry.persons["author"]
        )
        fields = entry.fields
        where = fields.get("journal") or fields.get("booktitle") or fields.get("note", "")
        where = f"*{plain(where)}*, " if where else ""
        entries.append(f"{people}. {plain(fields['title'])}. {where}{fields['year']}.")
    return "\n\n".join(entries)


def documented(body: list[str]) -> list[str]:
    """The calls that show what the package's page shows of its functions and classes."""
    names = [re.match(r"\.\. auto\w+:: ([\w.]+)", line) for line in body]
    return [f"help(mf.{name[1].split('.')[-1]})" for name in names if name]


class Page:
    """One page's Markdown cells, written anew."""

    def __init__(self, name: str, book: Book) -> None:
        self.name, self.book = name, book

    def markdown(self, text: str) -> str:
        """The text of one Markdown cell."""
        return without_macros(self.blocks(text.splitlines()), self.book.root).strip()

    def blocks(self, lines: list[str]) -> str:
        done: list[str] = []
        place = 0
        while place < len(lines):
            line = lines[place]
            if found := FENCE.match(line):
                end = next(
                    (i for i in range(place + 1, len(lines)) if lines[i].rstrip() == found[1]),
                    len(lines),
                )
                done.append(self.directive(found[2], found[3], lines[place + 1 : end]))
                place = end + 1
                continue
            if re.match(r"^\([\w-]+\)=$", line):  # the label of a heading
                place += 1
                continue
            if found := LABELLED.match(line):
                number = self.book.names[found[1]].strip("()")
                line = f"\\tag{{{number}}}\n$$"
            done.append(self.inline(line))
            place += 1
        return "\n".join(done)

    def directive(self, name: str, title: str, body: list[str]) -> str:
        given, size = options(body)
        label = dict(given).get("label", "")
        body = body[size:]
        text = self.blocks(body).strip()
        kind = name.removeprefix("prf:")
        if name == "bibliography":
            return bibliography(self.book.root)
        if name == "listing":
            # Fields that choose rows need a script, and a notebook has a search of its own.
            made = "" if "filter" in title else Listings(self.book.root, "ipynb").make(title)
            return made if made.startswith("<") else self.blocks(made.splitlines())
        if name == "eval-rst":
            return "\n".join(["```python", *documented(body), "```"])
        if name == "prf:proof":
            return f"*Proof.* {text} $\\square$\n"
        if name == "solution":
            title = f"Solution to {self.book.names.get(title.strip(), 'the exercise')}"
        if "dropdown" in dict(given).get("class", ""):
            # A summary is HTML to JupyterLab, so it holds no Markdown.
            return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>\n"
        if name.startswith("prf:") or name == "exercise":
            head = self.book.names.get(label, kind.capitalize())
            title = f" ({self.inline(title)})" if title else ""
            return f"<blockquote>\n\n**{head}**{title}. {text}\n\n</blockquote>\n"
        return text

    def inline(self, text: str) -> str:
        text = ROLE.sub(lambda found: self.role(found[1], found[2]), text)
        return LINK.sub(lambda found: f"]({found[1]}.ipynb{found[3] or ''})", text)

    def role(self, role: str, content: str) -> str:
        if role in ("cite", "cite:p", "cite:t"):
            return citation(role, content, self.book.root)
        words, label = content, content
        if found := re.fullmatch(r"(.*?)\s*<([\w-]+)>", content):
            words, label = found[1], found[2]
        if label not in self.book.names:
            return f"`{content}`" if role == "code" else words
        name = self.book.names[label]
        name = name if words == label else words
        page = self.book.places[label]
        return name if page == self.name else f"[{name}]({self.way_to(page)})"

    def way_to(self, page: str) -> str:
        here = PurePosixPath(self.name).parent.parts
        return "/".join([".."] * len(here) + [f"{page}.ipynb"])


def notebook(name: str, book: Book) -> nbformat.NotebookNode:
    """A page as a notebook that needs no extension: its stored outputs, its text in Markdown."""
    source = book.root / "book" / f"{name}.md"
    twin = source.with_suffix(".ipynb")
    page = Page(name, book)
    made = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        }
    )
    given = nbformat.read(twin, as_version=4) if twin.exists() else read(source)
    if "widgets" in given.metadata:
        made.metadata["widgets"] = given.metadata["widgets"]
    for cell in given.cells:
        if cell.cell_type == "markdown":
            made.cells += [nbformat.v4.new_markdown_cell(page.markdown(cell.source))]
        elif cell.cell_type == "code":
            made.cells += code_cells(cell, page)
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"
    return made


def linked_to_notebooks(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A stored output whose cards of claims link to the notebooks and not to built pages.

    JupyterLab takes drawings out of what it has not seen run, and would leave their letters: the
    name of the drawing says more.
    """
    html = output.get("data", {}).get("text/html")
    if html is None:
        return output
    changed = deepcopy(output)
    html = re.sub(r'href="([\w/.-]+)\.html#', r'href="\1.ipynb#', html)
    changed.data["text/html"] = DRAWING.sub(r"<p>\1</p>", html)
    return changed


def code_cells(cell: nbformat.NotebookNode, page: Page) -> list[nbformat.NotebookNode]:
    """A code cell, folded where the page folds it, and its figure's caption below."""
    tags = cell.metadata.get("tags", [])
    made = nbformat.v4.new_code_cell(
        cell.source,
        outputs=[linked_to_notebooks(output) for output in cell.get("outputs", [])],
        execution_count=cell.get("execution_count"),
    )
    if tags:
        made.metadata["tags"] = tags
    if {"hide-input", "remove-input", "hide-cell", "remove-cell"} & set(tags):
        made.metadata["jupyter"] = {"source_hidden": True}
    figure = cell.metadata.get("mystnb", {}).get("figure", {})
    if not figure.get("caption"):
        return [made]
    name = page.book.names.get(figure.get("name", ""), "Figure")
    caption = page.markdown(f"**{name}.** {figure['caption'].strip()}")
    return [made, nbformat.v4.new_markdown_cell(caption)]
