"""Every link of the built pages leads somewhere, those inside the cells' outputs too.

Sphinx has checked the links that it wrote; the ledger's cards and tables it passes through.
"""

from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from lxml.html import HtmlElement, document_fromstring

from tests.browser.test_pages import PAGES


@cache
def parsed(page: Path) -> HtmlElement:
    return document_fromstring(page.read_text("utf-8"))


@cache
def anchors(page: Path) -> set[str]:
    return set(parsed(page).xpath("//@id"))


def dead_links(page: Path) -> list[str]:
    dead = []
    for tag in parsed(page).iter("a", "img", "script", "link"):
        link = tag.get("href") or tag.get("src")
        if not link:
            continue
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            # A reader may follow a link to another site, but the page itself fetches nothing.
            if tag.tag != "a" and parts.scheme != "data":
                dead.append(f"fetched from elsewhere: {link}")
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.is_file():
            dead.append(f"no such file: {link}")
        elif parts.fragment and target.suffix == ".html":
            if unquote(parts.fragment) not in anchors(target):
                dead.append(f"no such place: {link}")
    return dead


@pytest.mark.parametrize("path", PAGES)
def test_links_lead_somewhere(html, path):
    assert not dead_links(html / path)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="gone.html">x</a>', "no such file: gone.html"),
        ('<a href="#gone">x</a>', "no such place: #gone"),
        ('<img src="https://example.org/x.png">', "fetched from elsewhere"),
    ],
)
def test_a_dead_link_is_seen(tmp_path, body, fault):
    page = tmp_path / "page.html"
    page.write_text(f'<p id="here"><a href="#here">fine</a> {body}</p>', "utf-8")
    (found,) = dead_links(page)
    assert found.startswith(fault)
