"use strict";
// The map: each of the problems of a large population is a dot; look at any of them.

mflive.explorers.map = (() => {
  const { el, svg, fitted } = mflive.dom;
  const { digits, power, spoken } = mflive.numbers;
  const { slider, number, button } = mflive.controls;
  const runs = mflive.runs;
  const LANES = ["trees", "one cycle, rank 1", "more cycles, rank 1", "rank 2", "rank 3"];
  // A letter says how far from the smallest rank a run ended, in fifths of a decade from 10^-10.
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
  const LOW = -10;
  const STEP = 0.2;
  const SETTLED = -3;
  const RUN = -1000;

  const excess = (letter) => LOW + STEP * LETTERS.indexOf(letter);

  // Problem k of mf.populations.connected_population, drawn again.
  function problem(k, { seed, triples }) {
    const [n, rank, size] = triples[k % triples.length];
    const rng = mflive.rng([seed, k]);
    const truth = mflive.randomLowRank(rng, n, n, rank);
    let mask = mflive.randomMask(rng, n, n, size);
    while (mflive.connectivity(mask) !== "connected") mask = mflive.randomMask(rng, n, n, size);
    return truth.map((row, i) => row.map((value, j) => (mask[i][j] ? value : null)));
  }

  function begin({ body, said, spec, state, ask, say, busy, keep, complain }) {
    const { lanes, far, exponents } = spec;
    const count = lanes.length;
    const asked = mflive.ask.latest(ask);
    const compared = mflive.ask.latest(runs.rivals(ask));
    let places = [];
    let answer = null;
    let least = null;

    const scale = slider({
      label: "Where the runs ended, from α =",
      stops: exponents,
      at: state.seen,
      show: power,
      say: spoken,
      onmove: (value) => {
        state.seen = value;
        keep();
        redraw();
        told();
      },
    });
    const chosen = number({
      label: `problem, 0 to ${count - 1}`,
      value: state.index,
      min: 0,
      max: count - 1,
      onchange: pick,
    });
    const tally = el("p", { class: "mfx-note" });
    const plot = el("div", { class: "mfx-plot mfx-dots", onclick: near });
    const graph = el("div", { class: "mfx-graph-box" });
    const cards = el("div", {});
    const stairs = el("div", { class: "mfx-plot" });
    body.append(
      scale.node,
      plot,
      tally,
      el(
        "div",
        { class: "mfx-row" },
        chosen.node,
        button("Next exception", () => nextWhere((k) => at(k) > SETTLED)),
        button("Next in its lane", () => nextWhere((k) => lanes[k] === lanes[state.index])),
      ),
      el("div", { class: "mfx-columns" }, graph, cards),
      stairs,
      said,
    );
    const redraw = fitted(plot, draw);
    const redrawStairs = fitted(stairs, (width) =>
      answer ? runs.staircase(answer, { width }) : runs.empty(),
    );
    const at = (k) => excess(far[exponents.indexOf(state.seen)][k]);

    function nextWhere(wanted) {
      for (let step = 1; step <= count; step += 1) {
        const k = (state.index + step) % count;
        if (wanted(k)) {
          chosen.set(k);
          pick(k);
          return;
        }
      }
    }

    // The dot nearest to where the reader clicked.
    function near(event) {
      const box = plot.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      let best = -1;
      let least2 = 400;
      places.forEach(([a, b], k) => {
        const square = (a - x) ** 2 + (b - y) ** 2;
        if (square < least2) [best, least2] = [k, square];
      });
      if (best >= 0) {
        chosen.set(best);
        pick(best);
      }
    }

    function draw(width) {
      const narrow = width < 480;
      const left = narrow ? 8 : 150;
      const lane = narrow ? 58 : 46;
      const top = narrow ? 22 : 8;
      const height = top + lane * LANES.length + 44;
      const band = narrow ? 70 : 100;
      const X = (value) => left + band + ((width - left - band - 24) * (value - LOW)) / 12;
      const root = svg("svg", {
        class: "mfx-chart",
        width,
        height,
        role: "img",
        "aria-label":
          `${count} problems in five lanes, placed by how far from the smallest rank their runs ` +
          `ended. ${counts()}`,
      });
      const floor = top + lane * LANES.length;
      root.append(
        svg("rect", { class: "mfx-none-band", x: left, y: top, width: band, height: floor - top }),
      );
      for (const value of [-8, -6, -4, -2, 0, 2]) {
        root.append(
          svg("line", { class: "mfx-grid-line", x1: X(value), x2: X(value), y1: top, y2: floor }),
          svg("text", { x: X(value), y: floor + 16, "text-anchor": "middle" }, power(value)),
        );
      }
      root.append(
        svg("text", { x: left + band / 2, y: floor + 16, "text-anchor": "middle" }, "none"),
        svg(
          "text",
          { x: (left + width) / 2, y: floor + 36, "text-anchor": "middle" },
          narrow
            ? "beyond the smallest rank"
            : "what is left beyond the smallest rank, over the largest entry",
        ),
      );
      places = [];
      LANES.forEach((name, one) => {
        const paths = [];
        for (let k = 0; k < count; k += 1) {
          if (Number(lanes[k]) !== one) continue;
          // Spread within the lane, always in the same way.
          const spread = ((k * 0.6180339887) % 1) - 0.5;
          const shake = ((k * 0.7548776662) % 1) - 0.5;
          const value = Math.min(2, at(k));
          const x =
            value <= LOW
              ? left + band * (0.5 + 0.9 * shake)
              : X(value) + shake * STEP * (X(1) - X(0));
          const y = top + lane * (one + (narrow ? 0.62 : 0.5) + (narrow ? 0.55 : 0.8) * spread);
          places[k] = [x, y];
          paths.push(`M${x.toFixed(1)} ${y.toFixed(1)}h0`);
        }
        root.append(
          svg("path", { class: "mfx-swarm", d: paths.join(""), stroke: mflive.pictures.hue(one) }),
          narrow
            ? svg("text", { class: "mfx-halo", x: left, y: top + lane * one + 10 }, name)
            : svg(
                "text",
                { x: left - 6, y: top + lane * (one + 0.5) + 4, "text-anchor": "end" },
                name,
              ),
        );
        if (one)
          root.append(
            svg("line", {
              class: "mfx-grid-line",
              x1: narrow ? 0 : left,
              x2: width,
              y1: top + lane * one,
              y2: top + lane * one,
            }),
          );
      });
      const [x, y] = places[state.index];
      root.append(svg("circle", { class: "mfx-ring", cx: x, cy: y, r: 8 }));
      return root;
    }

    const counts = () =>
      LANES.map((name, one) => {
        const all = [...lanes].flatMap((lane, k) => (Number(lane) === one ? [k] : []));
        return `${name}: ${all.filter((k) => at(k) <= SETTLED).length} of ${all.length}`;
      }).join("; ");
    const told = () => {
      tally.textContent = `At the smallest rank, up to a thousandth: ${counts()}.`;
    };

    async function pick(index) {
      state.index = index;
      state.cells = problem(index, spec);
      const { cells } = state;
      keep();
      redraw();
      graph.replaceChildren(mflive.pictures.graph(cells));
      busy(true);
      compared(cells).then(
        (found) => {
          if (found && cells === state.cells) {
            least = { cells, ...found };
            show();
          }
        },
        (error) => complain(error.message),
      );
      try {
        const found = await asked(runs.question(cells, { seed: state.seed }, state.scale));
        if (!found) return;
        answer = { cells, ...found };
        redrawStairs();
        show();
      } catch (error) {
        complain(error.message);
      }
      busy(false);
    }

    function show() {
      const { cells, index } = state;
      if (answer?.cells !== cells) return;
      const box = runs.cards(cells[0].length);
      box.append(
        runs.card(
          `problem ${index}: learned from ${power(RUN)}`,
          answer.W,
          cells,
          runs.doubt(answer),
        ),
      );
      cards.replaceChildren(box);
      const verdict =
        least?.cells === cells
          ? `the flow learns ${runs.verdict(answer, least)}`
          : runs.summary(answer.W, cells);
      say(
        runs.doubt(answer) ||
          `Problem ${index}, ${LANES[Number(lanes[index])]}: ${verdict}. Ranks on the way: ${runs.ranks(answer)}.`,
      );
    }

    told();
    pick(state.index);
  }

  return {
    title: "The map",
    question:
      "Which connected problems end at the smallest rank, and what do the others look like?",
    begin,
    refuse: ({ index, seen }, { lanes, exponents }) =>
      !(Number.isInteger(index) && index >= 0 && index < lanes.length) || !exponents.includes(seen)
        ? "The link names no problem of the map."
        : "",
  };
})();
