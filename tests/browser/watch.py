"""A page as a reader meets it, and everything that goes wrong while it is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, ViewportSize

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
Theme = Literal["light", "dark"]
THEMES: list[Theme] = ["light", "dark"]

# What axe-core is asked at a window. What a phone shows and a desktop does not is the theme's
# buttons, and boxes that scroll. What depends on colours is asked apart: see `pale`.
ON_A_PHONE = ["aria-hidden-focus", "button-name", "link-name", "scrollable-region-focusable"]
OF_COLOURS = ["color-contrast", "link-in-text-block"]
AXE = [
    (PHONE, {"runOnly": ON_A_PHONE}),
    (DESKTOP, {"rules": {name: {"enabled": False} for name in OF_COLOURS}}),
]

# Text that a reader sees outside code, where a backslash word or a pair of dollars is TeX that
# was not typeset.
VISIBLE_TEXT = """() => {
  const aside = 'script, style, pre, code, mjx-container, noscript';
  const told = document.createTreeWalker(
    document.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT,
    node => node.nodeType === Node.TEXT_NODE ? NodeFilter.FILTER_ACCEPT
      : node.matches(aside) ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_SKIP);
  const texts = [];
  while (told.nextNode()) texts.push(told.currentNode.data);
  return texts.join('');
}"""
RAW_TEX = re.compile(r"\\[a-zA-Z]+|\\[()\[\]]|\$[^$\n]{1,200}\$")

OPEN_ALL = """() => {
  document.querySelectorAll('details').forEach(node => { node.open = true; });
  document.querySelectorAll('.toggle-hidden > .toggle-button, button.toggle-button-hidden')
      .forEach(node => node.click());
}"""
# Most of a chapter's elements are the coloured words of its code. One of each colour, within each
# kind of surrounding, tells axe-core as much as all of them, in a fifth of the time.
ONE_WORD_A_COLOUR = """() => {
  const seen = new Set();
  for (const word of document.querySelectorAll('main pre span[class]:not(:has(*))')) {
    const kind = word.className + '|' + word.closest('div.cell_input, div.cell_output')?.className;
    if (seen.has(kind)) word.replaceWith(word.textContent);
    seen.add(kind);
  }
}"""
# Five elements of six are strokes that MathJax draws, and axe-core walks through them for every
# rule. A box of the same size tells it as much, for a formula has a label and no text of its own
# to look at. To leave the boxes out would cost more: each element is compared with all of them.
# What stands in the box of a formula within a line is always the same: three keep it.
BOXES_FOR_FORMULAS = """() => {
  const drawn = [...document.querySelectorAll('mjx-container > svg')];
  const sizes = drawn.map(one => one.getBoundingClientRect());
  let within = 0;
  drawn.forEach((one, k) => {
    const formula = one.parentElement;
    let box = one;
    if (formula.getAttribute('display') !== 'true' && (within += 1) > 3) {
      box = formula;
      box.style.display = 'inline-block';
      box.style.verticalAlign = one.style.verticalAlign;
    }
    box.replaceChildren();
    box.style.width = sizes[k].width + 'px';
    box.style.height = sizes[k].height + 'px';
  });
  document.querySelectorAll('mjx-assistive-mml').forEach(one => one.replaceChildren());
}"""
# The contrast of a text depends on how the elements from it up to the page are painted, that of a
# link with the text around it, too. Asking axe-core about each text takes minutes, and most of them
# look like many others. So the looks of each element are noted in every theme, and of the elements
# with a text of their own only the first three of each kind are left visible: a link within a text
# is of another kind than one alone, and what is around it stays. The others keep their place,
# unseen.
NOTE_LOOKS = """() => {
  const painted = ['color', 'backgroundColor', 'backgroundImage', 'backgroundClip', 'opacity',
    'filter', 'mixBlendMode', 'textShadow', 'fontSize', 'fontWeight', 'position', 'zIndex'];
  const setOff = ['fontFamily', 'fontStyle', 'textDecoration', 'borderTop', 'borderBottom',
    'outline'];
  window.looks ??= new Map();
  for (const node of document.querySelectorAll('body, body *:not(mjx-container *, svg *)')) {
    const style = getComputedStyle(node);
    let own = painted.map(name => style[name]).join(' | ');
    // A link may differ from the text around it in more ways, also by what its class puts there.
    if (node.tagName === 'A')
      own += setOff.map(name => ' | ' + style[name]).join('') + ' | ' + node.className;
    looks.set(node, (looks.get(node) || '') + ' || ' + own);
  }
}"""
LEAVE_A_FEW_OF_EACH_LOOK = """() => {
  const ways = new Map([[document.documentElement, '']]), counts = new Map(), left = new Set();
  for (const [node, own] of looks) {  // in the order of the page: parents first
    const above = ways.get(node.parentElement);
    // Elements around a text that paint nothing new make no difference.
    const way = above.endsWith(own) ? above : above + ' > ' + own;
    ways.set(node, way);
    const speaks = [...node.childNodes].some(one => one.nodeType === 3 && one.data.trim());
    if (!speaks || !node.checkVisibility({ visibilityProperty: true })) continue;
    const link = node.closest('a');
    let around = link?.parentElement;
    while (around && getComputedStyle(around).display === 'inline') around = around.parentElement;
    const within = around && around.textContent.trim() !== link.textContent.trim();
    const kind = within ? way + ' in a text' : way;
    const count = counts.get(kind) || 0;
    counts.set(kind, count + 1);
    if (count >= 3) continue;
    for (let up = node; up; up = up.parentElement) left.add(up);
    if (within) around.querySelectorAll('*').forEach(one => left.add(one));
  }
  for (const node of left) node.classList.add('left');
  const style = document.createElement('style');
  style.textContent = 'body *:not(.left) { visibility: hidden !important; }';
  document.head.append(style);
  const unseen = [...document.querySelectorAll('body.left > *, body .left > *')].filter(
    one => !left.has(one) && one.children.length);
  const sizes = unseen.map(one => one.getBoundingClientRect());
  unseen.forEach((one, k) => {
    one.replaceChildren();
    if (getComputedStyle(one).display === 'inline') one.style.display = 'inline-block';
    one.style.boxSizing = 'border-box';
    one.style.width = sizes[k].width + 'px';
    one.style.height = sizes[k].height + 'px';
  });
}"""
# The boxes that stick out of the window although nothing around them scrolls or clips them.
STICKING_OUT = """() => {
  const wide = [];
  for (const node of document.querySelectorAll('main *')) {
    if (node.parentElement.closest('mjx-container, svg')) continue;
    const box = node.getBoundingClientRect();
    if (box.width === 0 || box.right <= window.innerWidth + 1) continue;
    let held = getComputedStyle(node).visibility === 'hidden';
    for (let up = node.parentElement; up && up.tagName !== 'MAIN'; up = up.parentElement)
      held ||= getComputedStyle(up).overflowX !== 'visible';
    if (!held) wide.push(node.outerHTML.slice(0, 160));
  }
  const over = document.documentElement.scrollWidth - window.innerWidth;
  if (over > 0 && !wide.length) wide.push(`the page itself, by ${over} pixels`);
  return wide.slice(0, 5);
}"""

# Each displayed formula with what it needs and what it has. The box around a numbered one holds
# its number, too.
CUT = """() => [...document.querySelectorAll('mjx-container[display="true"]')].flatMap(box => {
  const outer = box.closest('div.math') || box;
  const words = (box.querySelector('mjx-assistive-mml')?.textContent || '').replace(/\\s+/g, '');
  const name = outer.id || words.slice(0, 60);
  return [[box, 'formula'], [outer, 'box']]
    .filter(([node]) => node.scrollWidth > node.clientWidth)
    .map(([node, what]) => `${what} of ${node.scrollWidth} pixels in ${node.clientWidth}: ${name}`);
})"""
# On a phone a long formula scrolls, in a box that shows that there is more.
UNMARKED = """() => [...document.querySelectorAll('mjx-container[display="true"], .mf-wide')]
  .filter(box => box.scrollWidth > box.clientWidth + 1 &&
    !(box.classList.contains('mf-more') && box.tabIndex === 0 &&
      getComputedStyle(box).maskImage.includes('gradient')))
  .map(box => box.outerHTML.slice(0, 120))"""
# The theme waits for 300 milliseconds before it gives boxes that scroll a place in the tab order,
# and takes it from others. Where all have what they should, or after half a second, the page is as
# it will stay.
SETTLE = f"""async () => {{
  const unmarked = {UNMARKED};
  const misplaced = () => [...document.querySelectorAll(
      'pre, .cell_output > .output, .pst-scrollable-table-container')].some(box => box.tabIndex !==
    (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight ? 0 : -1));
  const end = performance.now() + 500;
  do await new Promise(requestAnimationFrame);
  while ((unmarked().length || misplaced()) && performance.now() < end);
}}"""
# Letters of 9 points in a figure of 7 inches are about 11 pixels at a width of 620.
FIGURES = """() => [...document.querySelectorAll('div.cell_output img')]
  .map(one => [one.getBoundingClientRect().width, one.naturalWidth])"""
LEGIBLE = 600


# Tabs that were left, by what they showed. The next page of the same site is shown by the same
# process, which has compiled the scripts: of 2.6 seconds of work for a page, that saves one.
LEFT: dict[tuple[Browser, str, str], list[Page]] = {}


@contextmanager
def watched(browser: Browser, site: str) -> Iterator[tuple[Page, list[str]]]:
    """An empty tab for this site; the list fills with whatever goes wrong while a page is shown."""
    wrong: list[str] = []
    scheme, host = urlsplit(site)[:2]

    def request(seen) -> None:
        parts = urlsplit(seen.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != host:
            wrong.append(f"asks another host: {seen.url}")

    listeners = {
        "request": request,
        "response": lambda seen: (
            seen.status >= 400 and wrong.append(f"answer {seen.status}: {seen.url}")
        ),
        "console": lambda seen: (
            seen.type == "error" and wrong.append(f"console error: {seen.text}")
        ),
        "pageerror": lambda seen: wrong.append(f"script error: {seen}"),
    }
    left = LEFT.setdefault((browser, scheme, host), [])
    page = left.pop() if left else browser.new_context(viewport=DESKTOP).new_page()
    for event, listener in listeners.items():
        page.on(event, listener)
    try:
        yield page, wrong
    finally:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
        leave(page)
        left.append(page)


def leave(page: Page) -> None:
    """Leave a tab as it was found: without what a page kept, or a test asked for."""
    page.unroute_all()
    if page.url != "about:blank":
        page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        page.goto("about:blank")
    page.emulate_media(media="null", color_scheme="light", reduced_motion="no-preference")
    page.set_viewport_size(DESKTOP)


def load(page: Page, address: str) -> None:
    """Load a page, wait until its mathematics is typeset, and let no colour fade in slowly."""
    page.goto(address)
    page.add_style_tag(content="* { transition: none !important; animation: none !important; }")
    page.evaluate("async () => { if (window.MathJax) await window.MathJax.startup.promise; }")


def open_all(page: Page) -> None:
    """Open what is folded, and let the page mark what scrolls in it."""
    page.evaluate(OPEN_ALL)
    page.evaluate(SETTLE)


def resize(page: Page, window: ViewportSize) -> None:
    """Give the page another window, and let it mark what scrolls there."""
    if page.viewport_size != window:
        page.set_viewport_size(window)
        page.evaluate(SETTLE)


def paint(page: Page, theme: Theme) -> None:
    """Show the page in this theme."""
    page.emulate_media(color_scheme=theme)
    page.wait_for_function(f"document.documentElement.dataset.theme === '{theme}'")


def tex_errors(page: Page) -> list[str]:
    """What MathJax could not read: its message, or the name of an unknown command, drawn red."""
    return page.locator("mjx-assistive-mml :is(merror, mtext[mathcolor=red])").evaluate_all(
        "found => found.map(one => one.getAttribute('data-mjx-error') || one.textContent)"
    )


def raw_tex(page: Page) -> list[str]:
    return RAW_TEX.findall(page.evaluate(VISIBLE_TEXT))


def images_without_words(page: Page) -> list[str]:
    return page.evaluate(
        "() => [...document.images].filter(i => !(i.getAttribute('alt') || '').trim())"
        ".map(i => i.getAttribute('src'))"
    )


def sticking_out(page: Page) -> list[str]:
    return page.evaluate(STICKING_OUT)


def cut_formulas(page: Page) -> list[str]:
    return page.evaluate(CUT)


def unmarked(page: Page) -> list[str]:
    return page.evaluate(UNMARKED)


def small_figures(page: Page) -> list[str]:
    widths = page.evaluate(FIGURES)
    return [f"{width} of {full} pixels" for width, full in widths if width < LEGIBLE]


@cache
def axe_source() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")


def axe_violations(page: Page, rules: dict[str, object], within: str = "html") -> list[str]:
    """What axe-core calls serious or critical, each with the first elements concerned."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(axe_source())
        page.evaluate(ONE_WORD_A_COLOUR)
        page.evaluate(BOXES_FOR_FORMULAS)
    # Axe's preloading asks for style sheets at addresses that it resolves wrongly.
    options = {"preload": False, "resultTypes": ["violations"], **rules}
    found = page.evaluate(
        "async ([context, options]) => (await axe.run(context, options)).violations",
        [within, options],
    )
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: "
        + "; ".join(node["html"][:200] for node in one["nodes"][:4])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def pale(page: Page) -> list[str]:
    """The texts too pale to read and the links too like the text around them, in each theme.

    Leaves most others invisible.
    """
    for theme in THEMES:
        paint(page, theme)
        page.evaluate(NOTE_LOOKS)
    page.evaluate(LEAVE_A_FEW_OF_EACH_LOOK)
    found = []
    for theme in reversed(THEMES):  # from where we are
        if theme != THEMES[-1]:
            paint(page, theme)
        found += [f"{theme}: {x}" for x in axe_violations(page, {"runOnly": OF_COLOURS})]
    return found
