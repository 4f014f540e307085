"use strict";
// Your own matrix: which completion does each way of completing it choose?

mflive.explorers.matrix = (() => {
  const { el, fitted } = mflive.dom;
  const { power, counted } = mflive.numbers;
  const { button, number, grid, LARGEST_SEED } = mflive.controls;
  const runs = mflive.runs;
  const TINY = -100;

  // A matrix of this rank with small whole numbers as its factors, and where it is observed.
  function draw({ rows, columns, rank, entries, seed }) {
    const rng = mflive.rng(seed);
    const entry = () => [-3, -2, -1, 1, 2, 3][rng.integers(0, 6)];
    const table = (m, n) => Array.from({ length: m }, () => Array.from({ length: n }, entry));
    const [A, B] = [table(rows, rank), table(rank, columns)];
    const W = A.map((row) => B[0].map((_, j) => row.reduce((sum, a, k) => sum + a * B[k][j], 0)));
    const places = Array.from({ length: rows * columns }, (_, k) => k);
    for (let k = places.length - 1; k > 0; k -= 1) {
      const other = rng.integers(0, k + 1);
      [places[k], places[other]] = [places[other], places[k]];
    }
    const seen = new Set(places.slice(0, entries));
    return W.map((row, i) => row.map((value, j) => (seen.has(i * columns + j) ? value : null)));
  }

  const python = ({ cells, seed, scale }) =>
    [
      "import mfbook as mf",
      "",
      `problem = mf.MatrixCompletion.from_text("${mflive.text.write(cells)}")`,
      `factors = mf.small_init(problem.shape, rng=${seed})`,
      `run = mf.gradient_flow(problem, factors, log10_scale=${scale})`,
      "print(run)",
      "print(run.W.round(3))",
      'print("ranks on the way:", [phase.rank for phase in run.phases])',
      'print("smallest rank:", mf.min_rank(problem).rank)',
      'print("smallest nuclear norm:", mf.min_nuclear_norm(problem).value)',
    ].join("\n");

  function begin({ body, said, state, ask, where, say, complain, busy, keep }) {
    const own = runs.SCALES.filter((scale) => scale <= 0);
    const askRivals = mflive.ask.latest(runs.rivals(ask));
    const askRuns = mflive.ask.latest(ask);

    // The matrix, as a grid and as text.
    const text = mflive.controls.written({
      label: "Type or paste a matrix; ? is an unknown entry",
      values: state.cells,
      onread: (values, error) => {
        if (!error) entries.set(values);
        take(values, error);
      },
    });
    const { refuse } = text;
    const entries = grid({
      values: state.cells,
      oninput: (values, misread) => {
        text.set(values);
        take(values, misread);
      },
      onpaste: text.read,
    });

    function take(values, error) {
      const odd = error || mflive.text.objection(values);
      refuse(odd);
      complain("");
      if (odd) return;
      state.cells = values;
      changed();
    }

    function put(values) {
      entries.set(values);
      text.set(values);
      take(values, "");
    }

    const resized = (rows, columns) => {
      const now = Array.from({ length: rows }, (_, i) =>
        Array.from({ length: columns }, (_, j) => state.cells[i]?.[j] ?? null),
      );
      if (now.flat().every((value) => value === null)) {
        refuse("This would leave no observed entry, so there would be nothing to fit.");
      } else put(now);
    };
    const stepper = (words, one, count, change) =>
      el(
        "div",
        { class: "mfx-stepper", role: "group", "aria-label": words },
        button("−", () => change(Math.max(1, count() - 1)), { "aria-label": `one ${one} less` }),
        el("span", {}, words),
        button("+", () => change(Math.min(mflive.text.LARGEST, count() + 1)), {
          "aria-label": `one ${one} more`,
        }),
      );

    // A random one.
    const fields = {
      rows: number({ label: "rows", value: 4, min: 1, max: 8 }),
      columns: number({ label: "columns", value: 4, min: 1, max: 8 }),
      rank: number({ label: "rank", value: 2, min: 1, max: 8 }),
      entries: number({ label: "entries", value: 10, min: 1, max: 64 }),
      seed: number({ label: "seed", value: 0, min: 0, max: LARGEST_SEED }),
    };
    function drawn() {
      const wanted = Object.fromEntries(
        Object.entries(fields).map(([name, field]) => [name, field.read()]),
      );
      const odd = Object.keys(wanted).find((name) => wanted[name] === null);
      if (odd) return refuse(`“${odd}” needs a whole number in the range of its field.`);
      const { rows, columns, rank } = wanted;
      if (rank > Math.min(rows, columns)) {
        return refuse(
          `The rank can be at most ${Math.min(rows, columns)}, the smaller of rows and columns.`,
        );
      }
      if (wanted.entries > rows * columns) {
        return refuse(`A ${rows}×${columns} matrix has only ${rows * columns} entries.`);
      }
      put(draw(wanted));
      fields.seed.set((wanted.seed + 1) % (LARGEST_SEED + 1));
    }

    // What is shown.
    const graph = el("div", { class: "mfx-graph-box" });
    const kind = el("p", { class: "mfx-note" });
    const cards = el("div", {});
    const mine = el("div", { class: "mfx-mine" });
    const plot = el("div", { class: "mfx-plot" });
    let shown = null;
    const redraw = fitted(plot, (width) =>
      shown ? runs.staircase(shown, { width }) : runs.empty(),
    );
    const scale = mflive.controls.scale({
      stops: own,
      at: state.scale,
      onmove: (value) => {
        state.scale = value;
        foot.changed();
        keep();
        follow();
      },
    });
    const seed = mflive.controls.seed({
      value: state.seed,
      onchange: (value) => {
        state.seed = value;
        changed();
      },
    });

    const foot = mflive.foot({ kind: "matrix", state, where, python });

    body.append(
      el(
        "div",
        { class: "mfx-columns" },
        el(
          "div",
          {},
          entries.node,
          el(
            "div",
            { class: "mfx-row" },
            stepper(
              "rows",
              "row",
              () => state.cells.length,
              (rows) => resized(rows, state.cells[0].length),
            ),
            stepper(
              "columns",
              "column",
              () => state.cells[0].length,
              (columns) => resized(state.cells.length, columns),
            ),
          ),
        ),
        el("div", {}, graph, kind),
      ),
      el(
        "div",
        {},
        text.node,
        el(
          "details",
          {},
          el("summary", {}, "Draw a random matrix"),
          el(
            "div",
            { class: "mfx-row" },
            Object.values(fields).map((field) => field.node),
            button("Draw", drawn),
          ),
        ),
      ),
      el("p", { class: "mfx-part" }, "The flow, from the start that you choose"),
      el("div", { class: "mfx-row" }, scale.node, seed.node),
      el("div", { class: "mfx-columns mfx-uneven" }, mine, plot),
      said,
      el("p", { class: "mfx-part" }, "Five ways to finish it"),
      cards,
      ...foot.nodes,
    );

    function changed() {
      const parts = mflive.components(state.cells.map((row) => row.map((value) => value !== null)));
      const part = (i, j) =>
        state.cells[i][j] === null
          ? -1
          : parts.findIndex(({ rows, cols }) => rows.includes(i) && cols.includes(j));
      entries.colour((i, j) => (part(i, j) < 0 ? "" : mflive.pictures.hue(part(i, j))));
      graph.replaceChildren(mflive.pictures.graph(state.cells));
      kind.textContent = `${counted(parts.length, "component")}: ${runs.CLASSES[runs.classOf(state.cells)]}.`;
      foot.changed();
      keep();
      compare();
      follow();
    }

    let found = null;
    const known = { rivals: null, tiny: null, large: null };

    async function compare() {
      const cells = state.cells;
      const answer = await askRivals(cells).catch((error) => ({ error: error.message }));
      if (answer && cells === state.cells) {
        known.rivals = { cells, ...answer };
        showCards();
      }
    }

    // The flow from the chosen start first, then those from a tiny and from a large one.
    async function follow() {
      const { cells, seed: from, scale: at } = state;
      const current = () => cells === state.cells && from === state.seed && at === state.scale;
      busy(true);
      for (const [name, size] of [
        ["mine", at],
        ["tiny", TINY],
        ["large", 0],
      ]) {
        const before = known[name];
        if (before && before.cells === cells && before.seed === from && before.size === size)
          continue;
        const answer = await askRuns(runs.question(cells, { seed: from }, size)).catch((error) => ({
          error: error.message,
        }));
        if (!answer || !current()) return;
        known[name] = { cells, seed: from, size, ...answer };
        if (name === "mine") showMine(known.mine);
        showCards();
      }
      busy(false);
    }

    function showMine(answer) {
      if (answer.error) {
        say(answer.error);
        return;
      }
      found = answer;
      shown = answer;
      const doubt = runs.doubt(answer);
      mine.replaceChildren(
        runs.card(
          "learned",
          answer.W,
          answer.cells,
          doubt || `${runs.summary(answer.W, answer.cells)}`,
        ),
      );
      redraw();
      say(conclusion());
    }

    function conclusion() {
      if (!found) return "";
      const doubt = runs.doubt(found);
      if (doubt) return doubt;
      const least =
        known.rivals?.cells === found.cells && !known.rivals.error ? known.rivals : null;
      const way = `Ranks on the way: ${runs.ranks(found)}.`;
      if (!least)
        return `From α = ${power(found.size)}: ${runs.summary(found.W, found.cells)}. ${way}`;
      return `From α = ${power(found.size)} the flow learns ${runs.verdict(found, least)}. ${way}`;
    }

    function showCards() {
      const { cells } = state;
      const fromFlow = (name, answer) => {
        if (!answer || answer.cells !== cells) return runs.waiting(name);
        if (answer.error) return runs.card(name, null, cells, answer.error);
        return runs.card(name, answer.W, cells, runs.doubt(answer));
      };
      const rival = (name, pick) => {
        const answer = known.rivals;
        if (!answer || answer.cells !== cells) return runs.waiting(name);
        return answer.error ? runs.card(name, null, cells, answer.error) : pick(answer);
      };
      const zeros = cells.map((row) => row.map((value) => value ?? 0));
      const box = runs.cards(cells[0].length);
      box.append(
        runs.card("unfactored, from zero", zeros, cells),
        fromFlow("factored, large start", known.large),
        fromFlow("factored, tiny start", known.tiny),
        rival("smallest nuclear norm", ({ nuclear }) =>
          runs.card(
            "smallest nuclear norm",
            nuclear.W,
            cells,
            nuclear.sure ? "" : "not certified: the dual bound leaves a gap",
          ),
        ),
        rival("smallest rank", ({ rank }) =>
          runs.card(
            "smallest rank",
            rank.W ?? null,
            cells,
            rank.proven
              ? `${rank.W ? runs.summary(rank.W, cells) : `rank ${rank.rank}`}`
              : `rank ${rank.rank} found, not proved smallest`,
          ),
        ),
      );
      cards.replaceChildren(box);
      if (found && found.cells === cells) say(conclusion());
    }

    showCards();
    changed();
  }

  return {
    title: "Your own matrix",
    question: "Which of all the matrices that fit does each way of completing choose?",
    begin,
    refuse: ({ seed, scale }) =>
      !mflive.controls.isSeed(seed)
        ? "The link holds no seed from 0 to 999999."
        : !(scale <= 0 && scale >= -10000)
          ? "The link holds no scale from −10000 to 0."
          : "",
  };
})();
