"use strict";
// The mask: one entry more or less, and another rule decides.

mflive.explorers.mask = (() => {
  const { el } = mflive.dom;
  const { counted, digits, power } = mflive.numbers;
  const runs = mflive.runs;

  const FORECAST = {
    connected:
      "The map says: the smallest rank, for sure if the data have rank 1 and their factors no " +
      "zero, and in about seven of eight problems of higher rank.",
    "complete-bipartite":
      "The map says: every part is fitted by itself, so ranks add up; the nuclear norm is mostly " +
      "the least, and what stands between the parts is left to the seed. With three factors the " +
      "parts come together: the smallest rank, and the seed is left with signs.",
    disconnected:
      "The map says: every part is finished as if it were alone. Ranks and nuclear norms add up, " +
      "and neither need be the smallest. With three factors the parts come together, nearly " +
      "always at the smallest rank.",
  };

  // Three factors are followed as they stand, from a scale that this page can follow them from.
  const DEEP = { depth: 3, scale: -2, largest: 4 };

  // The entries as buttons, pressed where they are observed; arrows go from one to the next.
  function toggles(truth, isOn, onpress) {
    const cells = truth.map((row, i) =>
      row.map((value, j) =>
        el(
          "button",
          {
            type: "button",
            class: "mfx-toggle",
            "aria-label": `row ${i + 1}, column ${j + 1}, value ${value}`,
            onclick: () => onpress(i, j),
            onkeydown: (event) => {
              const step = {
                ArrowUp: [-1, 0],
                ArrowDown: [1, 0],
                ArrowLeft: [0, -1],
                ArrowRight: [0, 1],
              }[event.key];
              const next = step && cells[i + step[0]]?.[j + step[1]];
              if (next) {
                event.preventDefault();
                next.focus();
              }
            },
          },
          "",
        ),
      ),
    );
    const box = el(
      "div",
      { class: "mfx-grid", role: "group", "aria-label": "Observed entries" },
      cells,
    );
    box.style.setProperty("--columns", truth[0].length);
    const show = (colour) =>
      cells.forEach((row, i) =>
        row.forEach((button, j) => {
          button.setAttribute("aria-pressed", String(isOn(i, j)));
          button.textContent = isOn(i, j) ? digits(truth[i][j], 3) : "★";
          button.style.setProperty("--hue", colour(i, j));
        }),
      );
    return { node: box, show };
  }

  function begin({ body, said, spec, state, ask, say, busy, keep, complain }) {
    const { truth } = spec;
    const asked = mflive.ask.latest(ask);
    const askedDeep = mflive.ask.latest(ask);
    const compared = mflive.ask.latest(runs.rivals(ask));
    const graph = el("div", { class: "mfx-graph-box" });
    const kind = el("p", { class: "mfx-strong" });
    const forecast = el("p", { class: "mfx-note" });
    const answers = el("div", {});
    const grid = toggles(truth, (i, j) => state.cells[i][j] !== null, press);

    body.append(
      el("div", { class: "mfx-columns" }, grid.node, graph),
      el("div", {}, kind, forecast),
      answers,
      said,
    );

    function press(i, j) {
      const next = state.cells.map((row) => [...row]);
      next[i][j] = next[i][j] === null ? truth[i][j] : null;
      if (next.flat().every((value) => value === null)) {
        complain("One entry must stay observed, or there is nothing to fit.");
        return;
      }
      complain("");
      state.cells = next;
      changed();
    }

    const tooLarge = Math.max(truth.length, truth[0].length) > DEEP.largest;
    let learned = null;
    let deeper = null;
    let least = null;

    async function changed() {
      const { cells } = state;
      const parts = mflive.components(cells.map((row) => row.map((value) => value !== null)));
      const name = runs.classOf(cells);
      grid.show((i, j) => {
        const k = parts.findIndex(({ rows, cols }) => rows.includes(i) && cols.includes(j));
        return cells[i][j] === null || k < 0 ? "" : mflive.pictures.hue(k);
      });
      graph.replaceChildren(mflive.pictures.graph(cells));
      kind.textContent = `${counted(parts.length, "part")}: ${runs.CLASSES[name]}`;
      forecast.textContent = FORECAST[name];
      keep();
      busy(true);
      compared(cells).then(
        (answer) => {
          if (answer && cells === state.cells) {
            least = { cells, ...answer };
            show();
          }
        },
        (error) => complain(error.message),
      );
      try {
        const answer = await asked(runs.question(cells, { seed: state.seed }, state.scale));
        if (!answer) return;
        learned = { cells, ...answer };
        show();
        if (!tooLarge) {
          const found = await askedDeep({
            task: "deep",
            values: cells,
            depth: DEEP.depth,
            seed: state.seed,
            log10_scale: DEEP.scale,
            loss_tol: 1e-10,
            max_ms: 8000,
          });
          if (!found) return;
          deeper = { cells, ...found };
          show();
        }
      } catch (error) {
        complain(error.message);
      }
      busy(false);
    }

    function deepCard(cells) {
      const name = `three factors, from ${power(DEEP.scale)}`;
      if (deeper?.cells !== cells) return runs.waiting(name);
      return runs.card(name, deeper.W, cells, runs.doubt(deeper));
    }

    function show() {
      const { cells } = state;
      const known = least?.cells === cells ? least : null;
      const run = learned?.cells === cells ? learned : null;
      if (!run && !learned) return;
      const box = runs.cards(truth[0].length);
      const now = run ?? learned;
      box.append(
        runs.card(`learned, from ${power(state.scale)}`, now.W, now.cells, runs.doubt(now)),
        ...(tooLarge ? [] : [deepCard(cells)]),
        known
          ? runs.card(
              "smallest rank",
              known.rank.W ?? null,
              cells,
              known.rank.proven
                ? `rank ${known.rank.rank}`
                : `rank ${known.rank.rank} found, not proved smallest`,
            )
          : runs.waiting("smallest rank"),
        known
          ? runs.card(
              "smallest nuclear norm",
              known.nuclear.W,
              cells,
              `nuclear norm ${digits(known.nuclear.value)}`,
            )
          : runs.waiting("smallest nuclear norm"),
      );
      answers.replaceChildren(box);
      if (!run || !known) return;
      const doubt = runs.doubt(run);
      say(
        doubt ||
          `The flow learns ${runs.verdict(run, known)}. Ranks on the way: ${runs.ranks(run)}.`,
      );
    }

    changed();
  }

  return {
    title: "The mask",
    question: "What does one entry more, or one entry less, change?",
    begin,
    refuse: ({ cells }, { truth }) =>
      cells.length !== truth.length || cells[0].length !== truth[0].length
        ? `The link holds a matrix of another size than ${truth.length}×${truth[0].length}.`
        : "",
  };
})();
