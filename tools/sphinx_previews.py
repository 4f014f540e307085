"""Sphinx extension: a link to a statement, formula, figure or reference shows it beforehand.

What a page's links lead to is written beside it as a script, which a page opened from a file may
load, too; `previews.js` shows it. Statements and exercises get a permalink, as headings have one.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

from sphinx.application import Sphinx

from tools.elements import TITLE, built_pages, element

SCRIPT = "previews.js"
FOLDER = "previews"

# Where that begins which can be shown by itself.
SHOWN = re.compile(
    r'<(?P<tag>div|figure) class="(?P<kind>proof [\w-]+ admonition|exercise [\w -]*admonition'
    r'|align-default|math notranslate nohighlight|citation)" id="(?P<id>[^"]+)"'
)
LINK = re.compile(r'<a class="reference internal" href="([^"#]*)#([^"]+)"')
# What a page has once must not come twice, and a link inside of a preview leads to nothing new.
ONCE = re.compile(r' (?:id|role|tabindex)="[^"]*"|<a class="headerlink".*?</a>', re.S)
ADDRESS = re.compile(r'\b(src|href)="(?![a-z]+:|#)([^"]+)"')


def with_permalinks(body: str) -> str:
    """The body with a link to itself at every title of a statement or an exercise."""
    sign = '<a class="headerlink" href="#{}" title="Link to this statement">#</a>'
    return TITLE.sub(lambda found: found[0] + sign.format(found[3]), body)


def shown(html: str) -> dict[str, str]:
    """What a page has to show, by its id."""
    return {
        found["id"]: ONCE.sub("", element(html, found.start(), found["tag"]))
        for found in SHOWN.finditer(html)
    }


def moved(fragment: str, source: str, page: str) -> str:
    """The fragment of one page with addresses as another one writes them."""

    def address(found: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[2]))
        return f'{found[1]}="{posixpath.relpath(target, posixpath.dirname(page) or ".")}"'

    return ADDRESS.sub(address, fragment)


def previews(pages: dict[str, str]) -> dict[str, dict[str, str]]:
    """For every page, what its links lead to: the address as written, and what is there."""
    targets = {page: shown(html) for page, html in pages.items()}
    found: dict[str, dict[str, str]] = {}
    for page, html in pages.items():
        found[page] = {}
        for path, name in set(LINK.findall(html)):
            source = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
            source = source if path else page
            fragment = targets.get(source, {}).get(name)
            if fragment is not None:
                found[page][f"{path}#{name}"] = moved(fragment, source, page)
    return found


def script_of(page: str) -> str:
    return f"{FOLDER}/{page.removesuffix('.html').replace('/', '-')}.js"


def write(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.name != "html":
        return
    root = Path(app.outdir)
    texts = {f"{name}.html": html for name, html in built_pages(app).items()}
    (root / "_static" / FOLDER).mkdir(exist_ok=True)
    for page, found in previews(texts).items():
        words = json.dumps(dict(sorted(found.items())), ensure_ascii=False)
        (root / "_static" / script_of(page)).write_text(f"window.mfPreviews = {words};\n", "utf-8")


def prepare(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if doctree is None or app.builder.name != "html":
        return
    context["body"] = with_permalinks(context.get("body", ""))
    app.add_js_file(script_of(page), loading_method="defer")
    app.add_js_file(SCRIPT, loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    # After what mends the body.
    app.connect("html-page-context", prepare, priority=600)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
