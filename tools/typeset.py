"""The bound book in the browser, which typesets its mathematics and lays it out."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page

from tools.browser import launched
from tools.sphinx_offline import MATHJAX

STYLES = Path(__file__).resolve().parent / "print_styles"
# Every letter comes from what is installed with the book, so that it looks alike on all machines.
# Matplotlib brings these; STIX covers the letters and signs of mathematics.
FACES = {
    "STIX": ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    "DejaVu Sans": tuple(f"DejaVuSans{kind}" for kind in ("", "-Bold", "-Oblique", "-BoldOblique")),
    "DejaVu Sans Mono": tuple(
        f"DejaVuSansMono{kind}" for kind in ("", "-Bold", "-Oblique", "-BoldOblique")
    ),
}
# Formulas are measured against the letters around them, so those come first. What is drawn is read
# aloud as its TeX, and not as the hidden copy that MathJax keeps for screen readers.
TYPESET = """async longest => {
  await document.fonts.ready;
  await MathJax.startup.promise;
  await MathJax.typesetPromise();
  document.querySelectorAll('mjx-assistive-mml').forEach(one => one.remove());
  for (const item of MathJax.startup.document.math) {
    const svg = item.typesetRoot.querySelector('svg');
    svg.removeAttribute('aria-hidden');
    svg.setAttribute('role', 'img');
    svg.setAttribute('aria-label', item.math.replace(/\\s+/g, ' ').trim());
    keep(item);
  }
  // A browser would break the line between a formula and the comma after it.
  function keep(item) {
    const box = item.typesetRoot.closest('.math');
    if (item.display || !box || box.getBoundingClientRect().width > longest) return;
    const beside = (node, end) =>
      node?.nodeType === Node.TEXT_NODE ? (node.data.match(end) ?? [''])[0] : '';
    const before = beside(box.previousSibling, /[([“‘]+$/);
    const after = beside(box.nextSibling, /^[^\\s—–-]*-?/);
    if (!before && !after) return;
    const kept = document.createElement('span');
    kept.className = 'mf-kept';
    if (before) box.previousSibling.data = box.previousSibling.data.slice(0, -before.length);
    if (after) box.nextSibling.data = box.nextSibling.data.slice(after.length);
    box.replaceWith(kept);
    kept.append(before, box, after);
  }
}"""
# A phone's column has room for a formula of so many pixels and a word.
LONGEST = 240
# Formulas that MathJax could not read: left as they were, an error, or an unknown command in red.
WRONG = """() => [
  ...[...document.querySelectorAll('.math')].filter(one => !one.querySelector('mjx-container'))
    .map(one => `not typeset: ${one.textContent}`),
  ...[...document.querySelectorAll(
    '[data-mjx-error], mjx-container [data-mml-node=mtext][fill=red]')].map(one =>
    `${one.closest('svg').getAttribute('aria-label')}: ` +
    `${one.getAttribute('data-mjx-error') || 'unknown command'}`),
]"""
# What sticks out of a column of this many pixels.
STICKING_OUT = """width => {
  const found = [];
  for (const node of document.body.querySelectorAll('*')) {
    if (node.parentElement.closest('svg')) continue;
    const box = node.getBoundingClientRect();
    if (box.width && (box.right > width + 1 || box.left < -1)) found.push(node);
  }
  return found.map(node => {
    const words = node.textContent || node.getAttribute('aria-label') || '';
    const right = Math.round(node.getBoundingClientRect().right);
    return `${node.tagName.toLowerCase()} of ${right} pixels: ${words.slice(0, 60)}`;
  });
}"""
# Formulas that are too wide are set smaller, together with their number.
SHRINK = """least => {
  for (const node of document.querySelectorAll('mjx-container')) {
    const outer = node.closest('div.math') || node.parentElement;
    const number = outer.querySelector('.eqno')?.getBoundingClientRect().width || 0;
    const needs = node.firstElementChild.getBoundingClientRect().width;
    const has = outer.clientWidth - (number && number + 12);
    if (outer.clientWidth && needs > has) {
      const size = parseFloat(getComputedStyle(node).fontSize);
      node.style.fontSize = `${size * Math.max(least, 0.99 * has / needs)}px`;
    }
  }
}"""


def faces() -> str:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return "\n".join(
        f'@font-face {{ font-family: "{family}"; src: url({(folder / file).as_uri()}.ttf); '
        f"font-weight: {weight}; font-style: {style}; }}"
        for family, files in FACES.items()
        for file, (style, weight) in zip(
            files,
            [(style, weight) for style in ("normal", "italic") for weight in ("normal", "bold")],
            strict=True,
        )
    )


def mathjax(settings: str) -> str:
    """The scripts that typeset a document as the pages are. Every formula carries its curves with
    it, and draws alike wherever it is put."""
    # The package's name has hyphens, so it can be found but not imported.
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    assert spec is not None and spec.submodule_search_locations
    script = Path(spec.submodule_search_locations[0]) / "static" / "mathjax" / MATHJAX
    return (
        f"<script>{settings};\n"
        'MathJax.startup = {typeset: false};\nMathJax.svg = {fontCache: "none"};\n'
        "Object.assign(MathJax.options, {enableMenu: false, enableAssistiveMml: false});"
        f'</script>\n<script src="{script.as_uri()}"></script>'
    )


@contextmanager
def opened(width: int) -> Iterator[Page]:
    """A page of a browser, as wide as the column of text. Raises RuntimeError without a browser."""
    with launched("--allow-file-access-from-files") as browser:
        page = browser.new_page(viewport={"width": width, "height": 1000})
        # The whole book on a busy machine takes as long as it takes.
        page.set_default_timeout(0)
        page.emulate_media(media="print", color_scheme="light")
        yield page


def load(page: Page, file: Path) -> None:
    """Open a document and wait until its mathematics, letters and pictures are there.

    Raises RuntimeError where one is missing or a formula is wrong.
    """
    missing: list[str] = []

    def note(request) -> None:
        missing.append(request.url)

    page.on("requestfailed", note)
    page.goto(file.as_uri())
    page.evaluate(TYPESET, LONGEST)
    page.remove_listener("requestfailed", note)
    missing += page.evaluate(
        "() => [...document.images].filter(one => !one.naturalWidth).map(one => one.src)"
    )
    wrong = page.evaluate(WRONG)
    if missing or wrong:
        raise RuntimeError(f"{file.name}: " + "; ".join([*missing, *wrong]))
