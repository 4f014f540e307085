"use strict";
// What stands below an explorer: a link to its state, and the lines of Python that do the same.

mflive.foot = ({ kind, state, where, python }) => {
  const { el } = mflive.dom;
  const { button } = mflive.controls;
  const code = el("code", {}, python(state));
  const told = el("span", { class: "mfx-told", role: "status" });

  async function copyLink() {
    history.replaceState(null, "", mflive.link.fragment(kind, state));
    told.textContent = (await mflive.link.copy(location.href))
      ? "The link is copied, and stands in the address bar."
      : "The link stands in the address bar.";
  }
  async function copyPython() {
    told.textContent = (await mflive.link.copy(code.textContent))
      ? "The Python lines are copied."
      : "The browser does not let a page copy; the lines are below.";
  }

  return {
    nodes: [
      el(
        "div",
        { class: "mfx-row mfx-foot" },
        where === "page" ? button("Copy a link to this", copyLink) : null,
        button("Copy the Python lines", copyPython),
        told,
      ),
      el("details", {}, el("summary", {}, "The same in Python"), el("pre", { tabindex: 0 }, code)),
    ],
    changed: () => {
      code.textContent = python(state);
      told.textContent = "";
    },
  };
};
