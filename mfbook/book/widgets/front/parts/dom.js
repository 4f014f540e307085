"use strict";
// Elements, made without a string of markup: what a reader types is only ever text.

mflive.dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  let count = 0;

  function furnished(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) {
        node.setAttribute(name, String(value));
      }
    }
    node.append(
      ...children.flat(Infinity).flatMap((child) => dressed(child, node instanceof SVGElement)),
    );
    return node;
  }

  // Words as nodes, in which raised digits are raised by the page and not by the font, whose own
  // have several heights.
  const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  function dressed(child, drawn = false) {
    if (child === null || child === "") return [];
    if (typeof child !== "string") return [child];
    const parts = child.split(/([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)/);
    if (parts.length === 1) return parts;
    const level = (raised) =>
      [...raised].map((c) => (c === "⁻" ? "−" : RAISED.indexOf(c))).join("");
    let low = false;
    return parts.flatMap((part, k) => {
      if (!part) return [];
      if (!drawn) return k % 2 ? [el("sup", {}, level(part))] : [part];
      const back = low ? "0.35em" : null;
      low = k % 2 === 1;
      if (low) return [svg("tspan", { dy: "-0.45em", "font-size": "0.72em" }, level(part))];
      return back ? [svg("tspan", { dy: back }, part)] : [part];
    });
  }

  // Put these words into a node, if it does not hold them yet: what is read aloud changes rarely.
  function tell(node, words) {
    if (node.dataset.words === words) return;
    node.dataset.words = words;
    node.replaceChildren(...dressed(words));
  }

  const el = (name, attributes = {}, ...children) =>
    furnished(document.createElement(name), attributes, children);
  const svg = (name, attributes = {}, ...children) =>
    furnished(document.createElementNS(SVG, name), attributes, children);

  // A name for an element that a label or a description refers to.
  const unique = (word) => `mfx-${word}-${(count += 1)}`;

  // Draw now, and again whenever the box has another width: letters keep their size.
  function fitted(box, draw) {
    let width = 0;
    const again = () => {
      const now = Math.floor(box.clientWidth);
      if (now > 0 && now !== width) {
        width = now;
        box.replaceChildren(draw(width));
      }
    };
    new ResizeObserver(again).observe(box);
    return () => {
      width = 0;
      again();
    };
  }

  // A box that scrolls sideways can be reached with the keyboard, as long as it does.
  function reachable(box) {
    new ResizeObserver(() => {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }).observe(box);
    return box;
  }

  const quiet = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  return { el, svg, tell, unique, fitted, reachable, quiet };
})();
