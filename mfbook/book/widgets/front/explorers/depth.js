"use strict";
// Depth: one problem with two, three and four factors.

mflive.explorers.depth = (() => {
  const { el, fitted } = mflive.dom;
  const { digits, power, spoken, list } = mflive.numbers;
  const { slider, choice, written } = mflive.controls;
  const runs = mflive.runs;
  const DEPTHS = [2, 3, 4];
  const WORDS = { 2: "two", 3: "three", 4: "four" };
  const STOPS = [0, -0.5, -1, -1.5, -2, -2.5, -3, -3.5, -4];
  // Where the Python engine answers, which needs no layer as it stands.
  const FURTHER = [-6, -10, -30, -100];
  const LARGEST = 4;

  const q = null;
  const EXAMPLES = {
    "two parts": [
      [1, q, 3],
      [q, 5, q],
      [3, q, 9],
    ],
    "one part": [
      [1, 2, q],
      [3, 4, q],
      [6, q, 5],
    ],
    "diag(2, 1)": [
      [2, 0],
      [0, 1],
    ],
    "one that runs away": [
      [2, 1, 1],
      [-1, -1, -1],
      [2, -3, q],
    ],
  };
  const sameAs = (cells) =>
    Object.keys(EXAMPLES).find(
      (name) => mflive.text.write(EXAMPLES[name]) === mflive.text.write(cells),
    );
  const large = (cells) =>
    Math.max(cells.length, cells[0].length) > LARGEST
      ? `With four factors this page takes up to ${LARGEST} rows and columns. ` +
        "For more, use mfbook in Python."
      : "";

  const python = ({ cells, seed, scale }) =>
    [
      "import mfbook as mf",
      "",
      `problem = mf.MatrixCompletion.from_text("${mflive.text.write(cells)}")`,
      "for depth in (2, 3, 4):",
      `    factors = mf.small_init(problem.shape, depth=depth, rng=${seed})`,
      `    run = mf.gradient_flow(problem, factors, log10_scale=${scale})`,
      "    print(depth, run, [phase.rank for phase in run.phases], run.W.round(3), sep='\\n')",
    ].join("\n");

  // When the loss falls to this value, between two frames.
  function passes({ frames }, value) {
    const k = frames.findIndex(({ loss }) => loss <= value);
    const [a, b] = [frames[k - 1], frames[k]];
    return a.t + ((a.loss - value) / (a.loss - b.loss)) * (b.t - a.t);
  }
  // The loss at zero, from which a small start begins.
  function atZero(cells) {
    const seen = cells.flat().filter((value) => value !== null);
    return seen.reduce((sum, value) => sum + value * value, 0) / seen.length;
  }
  // How much of its time the first fall takes, down to the next rest; null where a run does not
  // begin near zero.
  function fall(answer) {
    const zero = atZero(answer.cells);
    const next = answer.phases.find(({ loss }) => loss < 0.9 * zero);
    const begins = answer.frames[0].loss;
    if (!next || begins > 1.05 * zero) return null;
    const level = (share) => zero - share * (zero - next.loss);
    return begins > level(0.1) ? 1 - passes(answer, level(0.1)) / passes(answer, level(0.5)) : null;
  }
  const percent = (share) =>
    share < 1e-5 ? "less than 0.001\u00a0%" : `${digits(100 * share, 2)}\u00a0%`;

  function begin({ body, said, state, ask, where, say, complain, busy, keep }) {
    const known = new Map();
    let least = null;

    const which = choice({
      label: "An example:",
      options: Object.keys(EXAMPLES).map((words) => [words, words]),
      at: sameAs(state.cells),
      onchoose: (words) => {
        text.set(EXAMPLES[words]);
        text.refuse("");
        take(EXAMPLES[words]);
      },
    });
    const text = written({
      label: `or your own matrix, up to ${LARGEST}×${LARGEST}; ? is an unknown entry`,
      values: state.cells,
      onread: (values, error) => {
        const odd = error ?? large(values);
        text.refuse(odd);
        if (!odd) take(values);
      },
    });
    const show = (k) => (Number.isInteger(k) ? power(k) : digits(10 ** k, 2));
    const scale = slider({
      label: "Size of the start, α =",
      stops: where === "notebook" ? [...STOPS, ...FURTHER] : STOPS,
      at: state.scale,
      show,
      say: (k) => (Number.isInteger(k) ? spoken(k) : digits(10 ** k, 2)),
      onmove: (value) => {
        state.scale = value;
        changed();
      },
    });
    const seed = mflive.controls.seed({
      value: state.seed,
      onchange: (value) => {
        state.seed = value;
        changed();
      },
    });
    const foot = mflive.foot({ kind: "depth", state, where, python });
    const panels = DEPTHS.map((count) => {
      const plot = el("div", { class: "mfx-plot" });
      const card = el("div", {});
      const node = el("div", { class: "mfx-columns mfx-uneven" }, card, plot);
      const redraw = fitted(plot, (width) => {
        const answer = known.get(count);
        return answer ? runs.staircase(answer, { width, height: 170, beyond: 0.06 }) : runs.empty();
      });
      return { count, node, card, redraw };
    });
    body.append(
      which.node,
      text.node,
      el("div", { class: "mfx-row" }, scale.node, seed.node),
      ...panels.map(({ node }) => node),
      said,
      ...foot.nodes,
    );

    function take(cells) {
      complain("");
      state.cells = cells;
      changed();
    }

    let asking = 0;
    async function changed() {
      asking += 1;
      const mine = asking;
      const { cells, seed: from, scale: at } = state;
      which.set(sameAs(cells));
      foot.changed();
      keep();
      busy(true);
      try {
        for (const depth of DEPTHS) {
          const found = await ask({
            task: "deep",
            values: cells,
            depth,
            seed: from,
            log10_scale: at,
            loss_tol: 1e-10,
            max_ms: 8000,
          });
          if (mine !== asking) return;
          known.set(depth, { cells, ...found });
          draw();
        }
        if (least?.cells !== cells) {
          const found = await ask({ task: "minRank", values: cells });
          if (mine !== asking) return;
          least = { cells, ...found };
        }
        say(verdict());
      } catch (error) {
        if (mine !== asking) return;
        complain(error.message);
      }
      busy(false);
    }

    function draw() {
      for (const { count, card, redraw } of panels) {
        redraw();
        const answer = known.get(count);
        if (!answer) continue;
        const { W, cells } = answer;
        card.replaceChildren(runs.card(`${count} factors end at`, W, cells, runs.doubt(answer)));
      }
    }

    function verdict() {
      const all = DEPTHS.map((depth) => ({ ...known.get(depth), depth }));
      const sure = all.filter(({ converged }) => converged);
      const stopped = all.filter(({ converged }) => !converged).map(({ depth }) => WORDS[depth]);
      const doubt = stopped.length
        ? ` With ${list(stopped)} factors the run was stopped before its end.`
        : "";
      const falls = sure.map(fall);
      const times = falls.includes(null)
        ? ""
        : " The first fall of the loss, from a tenth to a half of its depth, takes so much of the " +
          `time until then: ${list(
            sure.map(({ depth }, k) => `${percent(falls[k])} with ${WORDS[depth]}`),
          )}.`;
      return sure.length ? `From α = ${show(state.scale)} ${ends(sure)}.${times}${doubt}` : doubt;
    }

    function ends(sure) {
      const ranks = sure.map(({ W, cells }) => runs.rankOf(W, cells));
      const proof = least.proven ? "" : " that was found";
      if (ranks.every((rank) => rank === least.rank)) {
        const depths = list(sure.map(({ depth }) => WORDS[depth]));
        return `${depths} factors end at rank ${ranks[0]}, the smallest${proof}`;
      }
      const each = sure.map(({ depth }, k) =>
        k ? `${WORDS[depth]} at rank ${ranks[k]}` : `${WORDS[depth]} factors end at rank ${ranks[k]}`,
      );
      return `${list(each)}; the smallest${proof} is ${least.rank}`;
    }

    changed();
  }

  return {
    title: "Depth",
    question: "What do more factors change?",
    begin,
    refuse: ({ seed, scale, cells }) =>
      !mflive.controls.isSeed(seed) || !STOPS.includes(scale)
        ? "The link holds a scale or a seed that is no stop of the controls."
        : large(cells),
  };
})();
