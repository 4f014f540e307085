// A formula or a figure that is wider than its box scrolls inside it. Say so: fade the side that
// hides something, and let the keyboard reach the box.

function mfWatchWideBoxes() {
  const look = (box) => {
    const rest = box.scrollWidth - box.clientWidth;
    const wide = rest > 1;
    box.classList.toggle("mf-more", wide && box.scrollLeft < rest - 1);
    box.classList.toggle("mf-before", wide && box.scrollLeft > 1);
    if (wide && !box.hasAttribute("tabindex")) {
      box.tabIndex = 0;
      if (box.classList.contains("mf-wide")) {
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", "A figure that scrolls sideways");
      }
    } else if (!wide) {
      box.removeAttribute("tabindex");
    }
  };
  const sizes = new ResizeObserver((seen) => seen.forEach((one) => look(one.target)));
  for (const box of document.querySelectorAll('mjx-container[display="true"], .mf-wide')) {
    box.addEventListener("scroll", () => look(box), { passive: true });
    sizes.observe(box);
    for (const image of box.querySelectorAll("img")) {
      image.addEventListener("load", () => look(box));
    }
    look(box);
  }
}

window.addEventListener("load", async () => {
  if (window.MathJax && window.MathJax.startup) await window.MathJax.startup.promise;
  mfWatchWideBoxes();
});

// Where the page has an address, pip can take the wheel from there.
window.addEventListener("DOMContentLoaded", () => {
  if (!location.protocol.startsWith("http")) return;
  for (const line of document.querySelectorAll("pre[data-wheel]")) {
    const wheel = new URL(line.dataset.wheel, location.href);
    line.textContent = line.textContent.replace(/\S+\.whl/, wheel.href);
  }
});
