"use strict";
// Predict before you look: when does the flow leave the saddle at which it rests?

mflive.explorers.predict = (() => {
  const { el, fitted } = mflive.dom;
  const { digits, power, raised } = mflive.numbers;
  const { slider, choice, button } = mflive.controls;
  const runs = mflive.runs;
  const SCALE = -300;
  const PARTS = 60;

  const EXAMPLES = {
    paper: {
      words: "the 4×4 of the paper",
      cells: [
        [4, 0.6, 1.8, 0.8],
        [6, 0.9, 2.7, null],
        [8, 2.2, 2.6, 1.6],
        [8, 2.7, 5.1, 3.6],
      ],
    },
    diagonal: {
      words: "diag(2, 1)",
      cells: [
        [2, 0],
        [0, 1],
      ],
    },
    parts: {
      words: "3×3 in two parts",
      cells: [
        [1, null, 3],
        [null, 5, null],
        [3, null, 9],
      ],
    },
    symmetry: {
      words: "one with a symmetry",
      // From less, rounding decides which of two directions is taken.
      scale: -100,
      cells: [
        [1, 3, -1, null],
        [3, 1, null, -1],
        [-3, -1, null, 9],
        [-1, -3, 9, null],
      ],
    },
  };

  // The singular values of the gradient at W.
  function rates(W, cells) {
    const count = cells.flat().filter((value) => value !== null).length;
    const G = W.map((row, i) =>
      row.map((x, j) => (cells[i][j] === null ? 0 : (2 / count) * (x - cells[i][j]))),
    );
    return Array.from(mflive.svd(G).s);
  }

  // The timetable: when each column reaches the size 1, in units of ln 1/α, and all sizes at each
  // saddle, as powers of α.
  function timetable(answer) {
    const width = answer.B.length;
    const table = [{ at: 0, sizes: Array(width).fill(1), rates: [] }];
    answer.phases.slice(0, -1).forEach((phase, k) => {
      const now = table[k];
      now.rates = rates(phase.W, answer.cells);
      const wait = now.sizes[k] / now.rates[0];
      table.push({
        at: now.at + wait,
        sizes: now.sizes.map((size, j) => (j <= k ? 0 : size - wait * now.rates[j - k])),
        rates: [],
      });
    });
    return table;
  }

  function begin({ body, said, state, ask, say, busy, keep, complain }) {
    const asked = mflive.ask.latest(ask);
    let answer = null;
    let table = null;
    let step = 0;
    let guess = null;
    let looked = false;

    const which = choice({
      label: "The matrix",
      options: Object.entries(EXAMPLES).map(([name, { words }]) => [name, words]),
      at: state.example,
      onchoose: (name) => {
        state.example = name;
        take();
      },
    });
    const given = el("div", {});
    const saddle = el("div", {});
    const waiting = el("div", {});
    const ruler = el("div", {});
    const plot = el("div", { class: "mfx-plot" });
    const look = button("Run it", () => {
      looked = true;
      show();
    });
    const on = button("On to the next saddle", () => {
      step += 1;
      looked = false;
      pose();
    });
    const again = button("Begin again", () => {
      step = 0;
      looked = false;
      pose();
    });
    body.append(
      which.node,
      el("div", { class: "mfx-columns" }, el("div", { class: "mfx-pair" }, given, saddle), waiting),
      ruler,
      el("div", { class: "mfx-row" }, look, on, again),
      plot,
      said,
    );
    const redraw = fitted(plot, (width) => (answer ? curve(width) : runs.empty()));
    const unit = () => -state.scale * Math.log(10);
    const measured = (k) => runs.leaves(answer, k) / unit();
    const last = () => answer.phases.length - 2;

    async function take() {
      state.cells = EXAMPLES[state.example].cells;
      state.scale = EXAMPLES[state.example].scale ?? SCALE;
      step = 0;
      looked = false;
      keep();
      busy(true);
      try {
        const found = await asked(
          runs.question(state.cells, { seed: state.seed }, state.scale, 300),
        );
        if (!found) return;
        answer = { cells: state.cells, ...found };
        table = timetable(answer);
        complain(runs.doubt(answer));
        pose();
      } catch (error) {
        complain(error.message);
      }
      busy(false);
    }

    function pose() {
      const { cells } = state;
      const now = table[step];
      given.replaceChildren(
        el(
          "figure",
          { class: "mfx-card" },
          el("figcaption", {}, "the data"),
          mflive.pictures.given(cells, "the data"),
        ),
      );
      saddle.replaceChildren(
        runs.card(
          `it rests here, at rank ${answer.phases[step].rank}`,
          answer.phases[step].W,
          cells,
          " ",
        ),
      );
      const width = now.sizes.length;
      const rows = [];
      for (let j = step; j < width; j += 1) {
        rows.push(
          el(
            "tr",
            {},
            el("th", { scope: "row" }, String(j + 1)),
            el("td", {}, "α", el("sup", {}, digits(now.sizes[j], 3))),
            el("td", {}, digits(now.rates[j - step] ?? 0, 3)),
          ),
        );
      }
      waiting.replaceChildren(
        el(
          "p",
          { class: "mfx-caption" },
          "The columns that wait. Each grows at its rate, until the first has the size α⁰ = 1.",
        ),
        el(
          "table",
          { class: "mfx-table", "aria-label": "The columns that wait" },
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              ["column", "size", "rate"].map((word) => el("th", { scope: "col" }, word)),
            ),
          ),
          el("tbody", {}, rows),
        ),
      );
      const stops = Array.from(
        { length: PARTS + 1 },
        (_, k) => now.at + (3 * k) / PARTS / now.rates[0],
      );
      guess = stops[Math.round(PARTS / 6)];
      ruler.replaceChildren(
        slider({
          label: "I think that the next step comes at the time",
          stops,
          at: guess,
          show: (value) => `${digits(value, 3)} · ln 1/α`,
          say: (value) => `${digits(value, 3)} times the logarithm of one over alpha`,
          onmove: (value) => {
            guess = value;
            if (looked) show();
            else redraw();
          },
        }).node,
      );
      show();
    }

    function show() {
      look.disabled = looked;
      on.disabled = !looked || step >= last();
      redraw();
      const { at } = table[step];
      if (!looked) {
        say(
          `Column ${step + 1} is ahead. The flow came here at ${digits(at, 3)} · ln 1/α. ` +
            "How much longer does it rest? Size over rate is the rule; move the slider, then run it.",
        );
        return;
      }
      const truth = measured(step);
      const rule = table[step + 1].at;
      const off = Math.abs(guess - truth) / truth;
      const praise = off < 0.03 ? "You have it." : off < 0.15 ? "You are near." : "You are off.";
      const fit =
        Math.abs(rule - truth) / truth < 0.03
          ? "as the timetable says"
          : `and the timetable, ${digits(rule, 3)}, is wrong here: the column that is ahead is ` +
            "not dealt the largest rate";
      say(
        `The step came at ${digits(truth, 3)} · ln 1/α, ${fit}; you said ${digits(guess, 3)}. ` +
          `${praise} ${step >= last() ? "That was the last step." : "On to the next."}`,
      );
    }

    // The loss as far as the reader has looked, with the guess.
    function curve(width) {
      const until = looked ? measured(step) * 1.12 + 0.02 : table[step].at;
      const end = Math.max(table[step].at + 3 / table[step].rates[0], until);
      const frames = answer.frames.filter((frame) => frame.t / unit() <= until);
      const logs = answer.frames.map((frame) =>
        Math.log10(Math.max(frame.loss, 1e-6 * answer.frames[0].loss)),
      );
      const [low, high] = [Math.min(...logs), Math.max(...logs)];
      const chart = mflive.pictures.chart({
        width,
        height: 200,
        x: [0, end],
        y: [low, high + 0.3],
        xlabel: "time / ln 1/α",
        ylabel: "loss",
        name: "The loss over time, as far as you have looked, with your guess.",
        yticks: mflive.pictures.ticks(low, high, 4).filter(Number.isInteger),
        ywrite: (k) => (k === 0 ? "1" : `10${raised(k)}`),
      });
      if (frames.length) {
        chart.line(
          frames.map((frame) => [frame.t / unit(), Math.log10(Math.max(frame.loss, 1e-300))]),
          { stroke: mflive.pictures.hue(0) },
        );
      }
      mark(chart, guess, "you", "mfx-guess", 10);
      if (looked) mark(chart, table[step + 1].at, "timetable", "mfx-mark", 26);
      return chart.root;
    }

    function mark(chart, at, words, kind, down) {
      const x = chart.X(at);
      const end = x > chart.box.right - 70;
      chart.upright(kind, at);
      chart.note(end ? x - 5 : x + 5, chart.box.top + down, words, end ? "end" : "start");
    }

    take();
  }

  return {
    title: "Predict before you look",
    question: "When does the flow leave the saddle at which it rests?",
    begin,
    refuse: ({ example }) => (example in EXAMPLES ? "" : "The link names no matrix of this page."),
  };
})();
