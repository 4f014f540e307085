"use strict";
// The scale: how small must the start be, and is smaller always better?

mflive.explorers.scale = (() => {
  const { el, fitted } = mflive.dom;
  const { digits, power } = mflive.numbers;
  const { slider, choice } = mflive.controls;
  const runs = mflive.runs;
  const STOPS = runs.SCALES;
  const C = [1, 2, 3, 5, 8, 12, 20, 30, 50, 75, 100];

  const two = (c) => [
    [1, 2],
    [c, null],
  ];
  // What is asked of the one unknown entry, and what a completion of the smallest rank puts there.
  const EXAMPLES = {
    M4: { words: "M₄", cells: () => two(3), goal: () => 6, rank: 1 },
    M5: { words: "M₅", cells: () => two(20), goal: () => 40, rank: 1 },
    c: { words: "rows 1 2 and c ★, c free", cells: (c) => two(c), goal: (c) => 2 * c, rank: 1 },
    runaway: {
      words: "the one that runs away",
      cells: () => [
        [2, 1, 1],
        [-1, -1, -1],
        [2, -3, null],
      ],
      goal: () => -3,
      rank: 2,
    },
  };

  function begin({ body, said, state, ask, say, busy, keep, complain }) {
    const known = new Map();
    const plot = el("div", { class: "mfx-plot" });
    const card = el("div", { class: "mfx-mine" });
    const key = (scale) =>
      `${state.example} ${state.example === "c" ? state.c : ""} ${state.seed} ${scale}`;
    const here = () => known.get(key(state.scale));

    const free = slider({
      label: "c =",
      stops: C,
      at: state.c,
      show: String,
      onmove: (c) => {
        state.c = c;
        changed();
      },
    });
    const size = mflive.controls.scale({
      stops: STOPS,
      at: state.scale,
      onmove: (scale) => {
        state.scale = scale;
        keep();
        fill();
        show();
      },
    });
    const which = choice({
      label: "The matrix",
      options: Object.entries(EXAMPLES).map(([name, { words }]) => [name, words]),
      at: state.example,
      onchoose: (name) => {
        state.example = name;
        changed();
      },
    });
    body.append(
      which.node,
      free.node,
      size.node,
      el("div", { class: "mfx-columns mfx-uneven" }, card, plot),
      said,
    );
    const redraw = fitted(plot, draw);

    function changed() {
      free.node.hidden = state.example !== "c";
      state.cells = EXAMPLES[state.example].cells(state.c);
      keep();
      fill();
      show();
    }

    // The chosen scale first, then the others, the nearest before the far ones.
    let filling = 0;
    async function fill() {
      filling += 1;
      const mine = filling;
      const { cells } = state;
      const order = [...STOPS].sort((a, b) => distance(a) - distance(b));
      for (const scale of order) {
        if (known.has(key(scale))) continue;
        busy(true);
        try {
          const name = key(scale);
          const answer = await ask(runs.question(cells, { seed: state.seed }, scale, 2));
          known.set(name, answer);
        } catch (error) {
          complain(error.message);
        }
        if (mine !== filling) return;
        show();
      }
      busy(false);
    }
    const distance = (scale) => Math.abs(STOPS.indexOf(scale) - STOPS.indexOf(state.scale));

    const last = (W) => W.at(-1).at(-1);

    function draw(width) {
      const found = STOPS.map((scale, k) => [k, known.get(key(scale)), scale]).filter(
        ([, answer]) => answer,
      );
      const goal = EXAMPLES[state.example].goal(state.c);
      const values = found.map(([, answer]) => last(answer.W));
      const [low, high] = [Math.min(0, goal, ...values), Math.max(0, goal, ...values)];
      const margin = 0.12 * (high - low || 1);
      const every = width < 420 ? 4 : 2;
      const chart = mflive.pictures.chart({
        width,
        height: 250,
        x: [0, STOPS.length - 1],
        y: [low - margin, high + margin],
        xlabel: "size of the start, α",
        ylabel: "the entry ★ learned",
        name: `The learned entry against the size of the start; the smallest rank needs ${digits(goal)}.`,
        xticks: STOPS.map((_, k) => k).filter((k) => k % every === 0),
        xwrite: (k) => power(STOPS[k]),
      });
      chart.level("mfx-goal", goal);
      chart.note(chart.box.left + 6, chart.Y(goal) - 6, `smallest rank: ${digits(goal)}`, "start");
      chart.line(
        found.map(([k, answer]) => [k, last(answer.W)]),
        { stroke: mflive.pictures.hue(0) },
      );
      for (const [k, answer, scale] of found) {
        const chosen = scale === state.scale;
        const kind = `mfx-dot${answer.converged ? "" : " mfx-unsure"}${chosen ? " mfx-chosen" : ""}`;
        chart.dot(kind, k, last(answer.W), chosen ? 7 : 4);
      }
      return chart.root;
    }

    function show() {
      redraw();
      const answer = here();
      if (!answer) return;
      const { cells } = state;
      card.replaceChildren(
        runs.card(`from α = ${power(state.scale)}`, answer.W, cells, runs.doubt(answer)),
      );
      say(runs.doubt(answer) || sentence(answer));
    }

    function sentence(answer) {
      const { rank, goal } = EXAMPLES[state.example];
      const aim = goal(state.c);
      const value = last(answer.W);
      const near = Math.abs(value - aim) <= 5e-3 * Math.max(1, Math.abs(aim));
      const got = `From α = ${power(state.scale)} the entry becomes ${digits(value)}`;
      if (near)
        return `${got}: the matrix of rank ${rank}, the smallest. Ranks on the way: ${runs.ranks(answer)}.`;
      if (state.example === "runaway" && value > 3) {
        return (
          `${got}: it has run away from ${digits(aim)}, the only value of rank 2, and a smaller ` +
          `start sends it further. Ranks on the way: ${runs.ranks(answer)}.`
        );
      }
      return (
        `${got}; the smallest rank needs ${digits(aim)}. The start is not small enough. ` +
        `Ranks on the way: ${runs.ranks(answer)}.`
      );
    }

    changed();
  }

  return {
    title: "The scale",
    question: "How small must the start be, and is smaller always better?",
    begin,
    refuse: ({ example, scale, c }) =>
      !(example in EXAMPLES)
        ? "The link names no matrix of this page."
        : !STOPS.includes(scale) || !C.includes(c)
          ? "The link holds a scale or a c that is no stop of the sliders."
          : "",
  };
})();
