// The ledger's fields: they show the rows that hold all the words and have the paper, the part of
// the book and the verdict that are chosen. What is chosen stands in the address, so that it can be
// linked to. A row that a link leads to is always shown.

(function () {
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

  function begin(form) {
    const tables = [...document.querySelectorAll("table.mf-ledger")];
    const rows = tables.flatMap((table) =>
      [...table.tBodies[0].rows].map((row) => ({
        row,
        table,
        paper: table.dataset.paper,
        part: row.dataset.part,
        verdict: row.dataset.verdict,
        words: plain(`${row.id.slice(4)} ${row.textContent}`),
      })),
    );
    const said = form.querySelector("[role=status]");
    const names = ["words", "paper", "part", "verdict"];

    function chosen() {
      return Object.fromEntries(names.map((name) => [name, form.elements[name].value]));
    }

    function show() {
      const want = chosen();
      const words = plain(want.words).split(/\s+/).filter(Boolean);
      let number = 0;
      for (const one of rows) {
        const fits =
          ["paper", "part", "verdict"].every((name) => !want[name] || one[name] === want[name]) &&
          words.every((word) => one.words.includes(word));
        one.row.hidden = !fits;
        number += fits;
      }
      for (const table of tables) {
        const left = [...table.tBodies[0].rows].filter((row) => !row.hidden).length;
        table.caption.textContent =
          left === 0 ? "no row" : left === 1 ? "1 row" : `${left} rows`;
        table.tHead.hidden = left === 0;
      }
      said.textContent = `${number} of ${rows.length} rows`;
    }

    function remember() {
      const kept = Object.entries(chosen()).filter(([, value]) => value);
      const query = kept.length ? `?${new URLSearchParams(kept)}` : "";
      try {
        history.replaceState(null, "", location.pathname + query + location.hash);
      } catch {
        // Some browsers do not let a page that was opened as a file change its address.
      }
    }

    function showTarget() {
      const target = location.hash && document.getElementById(location.hash.slice(1));
      if (target && target.matches(".mf-ledger tr") && target.hidden) {
        form.reset();
        show();
        target.scrollIntoView();
      }
    }

    const given = new URLSearchParams(location.search);
    for (const name of names) {
      if (given.has(name)) form.elements[name].value = given.get(name);
    }
    form.hidden = false;
    form.addEventListener("input", () => {
      show();
      remember();
    });
    // The fields are empty only after the event.
    form.addEventListener("reset", () =>
      setTimeout(() => {
        show();
        remember();
      }),
    );
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const link of document.querySelectorAll(".mf-counts a")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        const query = new URLSearchParams(link.getAttribute("href"));
        for (const name of names) form.elements[name].value = query.get(name) ?? "";
        show();
        remember();
        form.scrollIntoView();
      });
    }
    window.addEventListener("hashchange", showTarget);
    show();
    showTarget();
  }

  const form = document.querySelector("form.mf-filter");
  if (form) begin(form);
})();
