// A link to a statement, a formula, a figure or a reference shows it beside the link, before the
// reader has left the line. `mfPreviews` holds what this page's links lead to.

function mfShowPreviews(previews) {
  const box = document.createElement("div");
  box.id = "mf-preview";
  box.setAttribute("role", "tooltip");
  box.hidden = true;
  document.body.append(box);
  let link = null; // the one whose preview is shown or about to be
  let timer = 0;

  const hide = () => {
    clearTimeout(timer);
    if (link) link.removeAttribute("aria-describedby");
    link = null;
    box.hidden = true;
  };

  // Below the link, or above it where there is more room, and inside of the window.
  const place = () => {
    const at = [...link.getClientRects()].at(-1);
    const below = window.innerHeight - at.bottom;
    const up = below < Math.min(box.scrollHeight, 360) && at.top > below;
    box.style.maxHeight = `${Math.min(360, (up ? at.top : below) - 16)}px`;
    const width = box.getBoundingClientRect().width;
    const left = Math.max(8, Math.min(at.left, document.documentElement.clientWidth - width - 8));
    box.style.left = `${left}px`;
    const top = up ? at.top - box.getBoundingClientRect().height - 6 : at.bottom + 6;
    box.style.top = `${top}px`;
  };

  const show = async (one) => {
    box.innerHTML = previews[one.getAttribute("href")];
    box.scrollTop = 0;
    box.hidden = false;
    one.setAttribute("aria-describedby", box.id);
    place();
    if (window.MathJax && MathJax.typesetPromise) {
      await MathJax.typesetPromise([box]);
      if (one === link) place();
    }
  };

  const soon = (one, wait) => {
    hide();
    link = one;
    timer = setTimeout(() => show(one), wait);
  };

  const leave = () => {
    clearTimeout(timer);
    timer = setTimeout(hide, 250);
  };

  for (const one of document.querySelectorAll("article a.reference.internal")) {
    if (!(one.getAttribute("href") in previews)) continue;
    one.removeAttribute("title"); // the browser would show it on top of the preview
    if (matchMedia("(hover: hover)").matches) {
      one.addEventListener("mouseenter", () => (one === link ? clearTimeout(timer) : soon(one, 200)));
      one.addEventListener("mouseleave", leave);
    }
    one.addEventListener("focus", () => one.matches(":focus-visible") && soon(one, 0));
    one.addEventListener("blur", leave);
    one.addEventListener("click", hide);
  }
  box.addEventListener("mouseenter", () => clearTimeout(timer));
  box.addEventListener("mouseleave", leave);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  // What scrolls takes the link along, or out of the window.
  const follow = (event) => {
    if (event.target === box || box.hidden) return;
    const { top, bottom } = link.getBoundingClientRect();
    if (bottom < 0 || top > window.innerHeight) hide();
    else place();
  };
  document.addEventListener("scroll", follow, true);
}

if (window.mfPreviews) mfShowPreviews(window.mfPreviews);
