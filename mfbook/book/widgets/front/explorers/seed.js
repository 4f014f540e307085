"use strict";
// The seed: what is left open between two parts of the data, and what decides it.

mflive.explorers.seed = (() => {
  const { el, svg, fitted } = mflive.dom;
  const { digits, power } = mflive.numbers;
  const { slider, number, button, LARGEST_SEED } = mflive.controls;
  const runs = mflive.runs;
  const STOPS = [0, -1, -2, -3, -4, -6, -8, -10, -15, -20];
  const ANGLES = Array.from({ length: 37 }, (_, k) => 5 * k);
  const REACH = 4;
  // The outer part of the data is 10 u uᵀ with this u; the inner one is the single entry 5.
  const U = [1 / Math.sqrt(10), 0, 3 / Math.sqrt(10)];
  const END = Math.sqrt(5);

  const dot = (a, b) => a.reduce((sum, x, k) => sum + x * b[k], 0);
  const scaled = (a, by) => a.map((x) => by * x);
  const plus = (a, b) => a.map((x, k) => x + b[k]);
  const norm = (a) => Math.sqrt(dot(a, a));
  const column = (B, j) => B.map((row) => row[j]);

  // The hidden directions that the two parts remember of a start.
  function directions([A, B]) {
    const c1 = plus(
      plus(scaled(A[0], U[0]), scaled(A[2], U[2])),
      plus(scaled(column(B, 0), U[0]), scaled(column(B, 2), U[2])),
    );
    return [c1, plus(A[1], column(B, 1))];
  }
  function angleOf(start) {
    const [c1, c2] = directions(start);
    return (Math.acos(dot(c1, c2) / (norm(c1) * norm(c2))) * 180) / Math.PI;
  }

  // The start of the seed with c₂ turned, in the plane of the two, to stand at this angle to c₁.
  function turned([A, B], degrees) {
    const [c1, c2] = directions([A, B]);
    const first = scaled(c1, 1 / norm(c1));
    const rest = plus(c2, scaled(first, -dot(c2, first)));
    const second = scaled(rest, 1 / norm(rest));
    const angle = (degrees * Math.PI) / 180;
    const aim = scaled(
      plus(scaled(first, Math.cos(angle)), scaled(second, Math.sin(angle))),
      norm(c2),
    );
    const half = scaled(plus(aim, scaled(c2, -1)), 0.5);
    return [
      A.map((row, i) => (i === 1 ? plus(row, half) : [...row])),
      B.map((row, k) => row.map((x, j) => (j === 1 ? x + half[k] : x))),
    ];
  }

  const filled = (x) => [
    [1, x, 3],
    [x, 5, 3 * x],
    [3, 3 * x, 9],
  ];

  function begin({ body, said, state, ask, say, busy, keep, complain }) {
    const asked = mflive.ask.latest(ask);
    let answer = null;
    const start = () =>
      mflive.smallInit(3, 3, state.seed).map((M) => M.map((row) => Array.from(row)));

    const angle = slider({
      label: "Angle between c₁ and c₂",
      stops: ANGLES,
      at: state.angle,
      show: (value) => `${value}°`,
      say: (value) => `${value} degrees`,
      onmove: (value) => {
        state.angle = value;
        changed();
      },
    });
    const size = mflive.controls.scale({
      stops: STOPS,
      at: state.scale,
      onmove: (value) => {
        state.scale = value;
        changed();
      },
    });
    const seed = number({ label: "a seed", value: state.seed, min: 0, max: LARGEST_SEED });
    const told = el("span", { class: "mfx-told" });
    const plot = el("div", { class: "mfx-plot" });
    const clock = el("div", { class: "mfx-figure" });
    const card = el("div", { class: "mfx-mine" });
    body.append(
      angle.node,
      size.node,
      el("div", { class: "mfx-row" }, seed.node, button("Take its angle", fromSeed), told),
      el("div", { class: "mfx-columns mfx-uneven" }, el("div", {}, clock, card), plot),
      said,
    );
    const redraw = fitted(plot, valley);

    function fromSeed() {
      const value = seed.read();
      if (value === null) {
        complain("A seed is a whole number from 0 to 999999.");
        return;
      }
      complain("");
      state.seed = value;
      const exact = angleOf(start());
      state.angle = ANGLES.reduce((best, one) =>
        Math.abs(one - exact) < Math.abs(best - exact) ? one : best,
      );
      angle.set(state.angle);
      told.textContent = `Seed ${value} has the angle ${digits(exact)}°; the nearest stop is ${state.angle}°.`;
      changed();
    }

    async function changed() {
      keep();
      hands();
      redraw();
      busy(true);
      const { angle: at } = state;
      try {
        const found = await asked(
          runs.question(state.cells, { factors: turned(start(), at) }, state.scale, 2),
        );
        if (!found) return;
        answer = { cells: state.cells, angle: at, ...found };
        card.replaceChildren(
          runs.card(`learned at ${at}°`, answer.W, state.cells, runs.doubt(answer)),
        );
        redraw();
        const x = END * Math.cos((at * Math.PI) / 180);
        say(
          runs.doubt(answer) ||
            `At ${at}° the formula says √5 cos ${at}° = ${digits(x)} for the entry in row 1, ` +
              `column 2; the flow from ${power(state.scale)} learns ${digits(answer.W[0][1])}. ` +
              `Nuclear norm ${digits(runs.nuclearNorm(answer.W))}; the least is 15.`,
        );
      } catch (error) {
        complain(error.message);
      }
      busy(false);
    }

    // c₁ and c₂ as two hands.
    function hands() {
      const at = (state.angle * Math.PI) / 180;
      const [x, y] = [100 + 74 * Math.cos(at), 112 - 74 * Math.sin(at)];
      const arc = [132, 112, 100 + 32 * Math.cos(at), 112 - 32 * Math.sin(at)];
      clock.replaceChildren(
        svg(
          "svg",
          {
            viewBox: "0 0 200 130",
            width: 200,
            height: 130,
            role: "img",
            "aria-label": `Two arrows, c₁ and c₂, at ${state.angle} degrees`,
          },
          svg("path", {
            class: "mfx-axis",
            d: `M${arc[0]} ${arc[1]}A32 32 0 0 0 ${arc[2].toFixed(1)} ${arc[3].toFixed(1)}`,
          }),
          svg("line", {
            x1: 100,
            y1: 112,
            x2: 174,
            y2: 112,
            stroke: mflive.pictures.hue(0),
            "stroke-width": 3,
          }),
          svg("line", {
            x1: 100,
            y1: 112,
            x2: x,
            y2: y,
            stroke: mflive.pictures.hue(1),
            "stroke-width": 3,
          }),
          svg("circle", { cx: 174, cy: 112, r: 4, fill: mflive.pictures.hue(0) }),
          svg("circle", { cx: x, cy: y, r: 4, fill: mflive.pictures.hue(1) }),
          svg("text", { class: "mfx-halo", x: 186, y: 108, "text-anchor": "middle" }, "c₁"),
          svg(
            "text",
            {
              class: "mfx-halo",
              x: 100 + 90 * Math.cos(at),
              y: 116 - 90 * Math.sin(at),
              "text-anchor": "middle",
            },
            "c₂",
          ),
        ),
      );
    }

    // The nuclear norm along the matrices that fit and have the symmetry of all limits.
    const curve = Array.from({ length: 81 }, (_, k) => {
      const x = -REACH + (2 * REACH * k) / 80;
      return [x, runs.nuclearNorm(filled(x))];
    });
    function valley(width) {
      const chart = mflive.pictures.chart({
        width,
        height: 230,
        x: [-REACH, REACH],
        y: [12, Math.max(...curve.map(([, y]) => y))],
        xlabel: "entry in row 1, column 2",
        ylabel: "nuclear norm",
        name: "The nuclear norm is level, 15, between minus and plus the root of five.",
      });
      chart.line(curve, { stroke: mflive.pictures.hue(0) });
      const x = END * Math.cos((state.angle * Math.PI) / 180);
      chart.upright("mfx-mark", x, chart.Y(15));
      chart.note(chart.X(x), chart.box.bottom - 6, `formula ${digits(x, 3)}`);
      if (answer) {
        const [a, b] = [answer.W[0][1], runs.nuclearNorm(answer.W)];
        chart.dot("mfx-dot mfx-chosen", Math.max(-REACH, Math.min(REACH, a)), b, 7);
      }
      return chart.root;
    }

    changed();
  }

  return {
    title: "The seed",
    question: "What does the seed decide where the data fall into two parts?",
    begin,
    refuse: ({ angle, scale, seed }) =>
      !ANGLES.includes(angle) || !STOPS.includes(scale) || !(Number.isInteger(seed) && seed >= 0)
        ? "The link holds an angle, a scale or a seed that is no stop of the sliders."
        : "",
  };
})();
