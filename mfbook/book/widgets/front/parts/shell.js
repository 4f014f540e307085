"use strict";
// The frame of every explorer, and its two homes: an element of a page, a view in a notebook.

mflive.shell = (() => {
  const { el } = mflive.dom;

  // What an explorer is given: where to draw, what it begins with, whom to ask, where its state
  // goes, and how it says something in words.
  function open(host, { kind, spec, ask, where, keep = () => {} }) {
    const explorer = mflive.explorers[kind];
    const said = el("p", { class: "mfx-said", role: "status" });
    const wrong = el("p", { class: "mfx-wrong", role: "alert", hidden: true });
    const body = el("div", { class: "mfx-body" });
    const box = el(
      "section",
      { class: `mfx mfx-${kind}`, "aria-label": `Explorer: ${explorer.title}` },
      el("p", { class: "mfx-title" }, explorer.title),
      el("p", { class: "mfx-question" }, explorer.question),
      body,
      wrong,
      said,
    );
    // A key belongs to the control that has the focus and not to the notebook around it, but for
    // what saves or finds.
    box.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
    });
    host.replaceChildren(box);
    const state = { ...spec.state };
    const outside = where === "page" ? mflive.link.read(kind, spec.state) : {};
    const complain = (words) => {
      wrong.textContent = words;
      wrong.hidden = !words;
    };
    const odd =
      outside.error ?? (outside.state && explorer.refuse?.({ ...state, ...outside.state }, spec));
    if (odd) complain(`${odd} Here is what the page begins with instead.`);
    else Object.assign(state, outside.state);
    explorer.begin({
      body,
      said,
      spec,
      state,
      ask,
      where,
      complain,
      say: (words) => mflive.dom.tell(said, words),
      busy: (now) => box.classList.toggle("mfx-busy", now),
      keep: () => keep({ ...state }),
    });
    if (outside.state && !odd) box.scrollIntoView({ block: "start" });
  }

  // In a page the figure that stands there gives way to the explorer when the reader comes near, or
  // a link names its state; for print it stays.
  class Element extends HTMLElement {
    connectedCallback() {
      if (this.still) return;
      this.still = el("div", { class: "mfx-still" }, [...this.childNodes]);
      this.append(this.still);
      window.addEventListener("hashchange", () => this.isNamed() && this.start());
      if (this.isNamed()) this.start();
      else {
        const near = new IntersectionObserver(
          (seen) => {
            if (!seen.some((one) => one.isIntersecting)) return;
            near.disconnect();
            if (!this.live) this.start();
          },
          { rootMargin: "600px" },
        );
        near.observe(this);
      }
    }

    get spec() {
      return JSON.parse(this.dataset.spec);
    }

    isNamed() {
      const { state, error } = mflive.link.read(this.getAttribute("kind"), this.spec.state);
      return Boolean(state || error);
    }

    start() {
      this.ask ??= mflive.ask.inThisPage();
      if (!this.live) {
        this.live = el("div", { class: "mfx-live" });
        this.prepend(this.live);
        this.classList.add("mfx-alive");
      }
      open(this.live, {
        kind: this.getAttribute("kind"),
        spec: this.spec,
        ask: this.ask,
        where: "page",
      });
    }
  }

  // In a notebook: the view of a widget whose Python object answers.
  function render({ model, el: host }) {
    open(host, {
      kind: model.get("kind"),
      // A second view of the same explorer begins where the reader left the first.
      spec: { ...model.get("spec"), state: model.get("state") },
      ask: mflive.ask.inPython(model),
      where: "notebook",
      keep: (state) => {
        model.set("state", state);
        model.save_changes();
      },
    });
  }

  function inPages() {
    if (!customElements.get("mf-explorer")) customElements.define("mf-explorer", Element);
  }

  return { render, inPages };
})();
