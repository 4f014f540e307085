"use strict";
// Time: one run, instant by instant.

mflive.explorers.time = (() => {
  const { el, svg, fitted, quiet } = mflive.dom;
  const { digits, raised } = mflive.numbers;
  const { slider, button } = mflive.controls;
  const runs = mflive.runs;
  const FRAMES = 160;
  const STOPS = [0, -1, -2, -3, -4, -6, -8, -10, -15, -20, -30, -50, -100, -200, -300];

  // From blue over white to red, and letters that can be read on it.
  function heat(x, size) {
    const share = Math.max(-1, Math.min(1, x / size));
    const [r, g, b] = share < 0 ? [0, 84, 148] : [176, 58, 6];
    const ground = [r, g, b].map((part) => 255 + (part - 255) * Math.abs(share) ** 0.8);
    const [red, green, blue] = ground.map((part) => (part / 255) ** 2.2);
    const bright = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    return {
      ground: `rgb(${ground.map(Math.round).join(", ")})`,
      // Where black and white have the same contrast.
      ink: bright > 0.18 ? "#000" : "#fff",
    };
  }

  function heatMap(W, values, size) {
    const cell = (x, i, j) => {
      const { ground, ink } = heat(x, size);
      const seen = values[i][j] !== null;
      return el(
        "td",
        {
          class: seen ? "mfx-hot mfx-known" : "mfx-hot",
          style: `background: ${ground}; color: ${ink}`,
        },
        digits(x, 3),
      );
    };
    const rows = W.map((row, i) =>
      el(
        "tr",
        {},
        row.map((x, j) => cell(x, i, j)),
      ),
    );
    return mflive.pictures.table(rows, "W at this time");
  }

  // The two hidden directions in which the run ends up, as a plane to look at.
  function plane(answer) {
    const { V } = mflive.svd(stacked(answer.A, answer.B));
    return V.slice(0, 2).map((v) => Array.from(v));
  }
  const transposed = (M) => M[0].map((_, j) => M.map((row) => row[j]));
  const stacked = (A, B) => [...A, ...transposed(B)];
  const dot = (a, b) => a.reduce((sum, x, k) => sum + x * b[k], 0);

  function arrows(frame, axes, width) {
    const side = Math.min(width, 240);
    const all = stacked(frame.A, frame.B).map((row) => axes.map((axis) => dot(row, axis)));
    const m = frame.A.length;
    const longest = Math.max(...all.map(([x, y]) => Math.hypot(x, y ?? 0)));
    const reach = side / 2 - 22;
    const root = svg("svg", {
      class: "mfx-arrows",
      width: side,
      height: side,
      viewBox: `0 0 ${side} ${side}`,
      role: "img",
      "aria-label": "Rows of A and columns of B as arrows in the hidden plane.",
    });
    const middle = side / 2;
    root.append(
      svg("line", { class: "mfx-grid-line", x1: 0, x2: side, y1: middle, y2: middle }),
      svg("line", { class: "mfx-grid-line", x1: middle, x2: middle, y1: 0, y2: side }),
    );
    const named = [];
    all.forEach(([x, y = 0], k) => {
      const [a, b] = longest ? [(reach * x) / longest, (-reach * y) / longest] : [0, 0];
      const length = Math.hypot(a, b);
      const colour = mflive.pictures.hue(k < m ? 0 : 1);
      root.append(
        svg("line", {
          x1: middle,
          y1: middle,
          x2: middle + a,
          y2: middle + b,
          stroke: colour,
          "stroke-width": 2.2,
          "stroke-dasharray": k < m ? null : "5 3",
        }),
        svg("circle", { cx: middle + a, cy: middle + b, r: 3.2, fill: colour }),
      );
      if (length > 16) {
        // Rows of A are named on one side of their arrows, columns of B on the other.
        const aside = k < m ? 10 : -10;
        const at = [
          middle + a * (1 + 7 / length) + (aside * b) / length,
          middle + b * (1 + 7 / length) - (aside * a) / length + 4,
        ];
        // A name that would stand on another is left out.
        if (named.some(([u, v]) => Math.hypot(at[0] - u, at[1] - v) < 15)) return;
        named.push(at);
        root.append(
          svg(
            "text",
            { class: "mfx-halo", x: at[0], y: at[1], "text-anchor": "middle" },
            `${k < m ? "a" : "b"}${subscript(k < m ? k + 1 : k - m + 1)}`,
          ),
        );
      }
    });
    return { root, longest };
  }
  const subscript = (k) => [...String(k)].map((d) => "₀₁₂₃₄₅₆₇₈₉"[d]).join("");

  // Which stage of the run this instant belongs to, in words.
  function stage(answer, frame) {
    const { phases } = answer;
    const next = phases.findIndex(
      (_, k) => k + 1 < phases.length && frame.t < runs.leaves(answer, k),
    );
    const k = next < 0 ? phases.length - 1 : next;
    const here = phases[k];
    const there = phases[k + 1];
    const before = phases[k - 1];
    const drop = there ? (here.loss - frame.loss) / (here.loss - there.loss) : 0;
    const left = before ? (frame.loss - here.loss) / (before.loss - here.loss) : 0;
    if (drop > 0.02) return `leaving rank ${here.rank} for rank ${there.rank}`;
    if (left > 0.02) return `coming down to rank ${here.rank}`;
    if (!there)
      return answer.converged ? `arrived, at rank ${here.rank}` : `stopped: ${answer.reason}`;
    return k === 0 && here.rank === 0
      ? "waiting at zero, a saddle of rank 0; all columns grow, unseen"
      : `resting at a saddle of rank ${here.rank}; the next column grows, unseen`;
  }

  function begin({ body, said, state, ask, say, busy, keep, complain }) {
    const asked = mflive.ask.latest(ask);
    let answer = null;
    let axes = null;
    let timer = 0;

    const size = mflive.controls.scale({
      stops: STOPS,
      at: state.scale,
      onmove: (scale) => {
        state.scale = scale;
        keep();
        run();
      },
    });
    const places = Array.from({ length: FRAMES }, (_, k) => k);
    const clock = slider({
      label: "Time t =",
      stops: places,
      at: state.at,
      show: (k) => (answer ? digits(answer.frames[k].t, 4) : ""),
      say: (k) =>
        answer ? `time ${digits(answer.frames[k].t, 3)}, ${stage(answer, answer.frames[k])}` : "",
      onmove: (k) => {
        stop();
        go(k);
      },
    });
    const play = button("Play", () => (timer ? stop() : start()));
    const heatBox = el("div", { class: "mfx-figure" });
    const arrowBox = el("div", { class: "mfx-figure" });
    const stairs = el("div", { class: "mfx-plot" });
    const losses = el("div", { class: "mfx-plot" });
    const phase = el("p", { class: "mfx-strong" });
    const jumps = el("div", { class: "mfx-row" });
    body.append(
      el("div", { class: "mfx-row" }, size.node, clock.node, play),
      phase,
      el("div", { class: "mfx-columns mfx-top" }, heatBox, arrowBox),
      jumps,
      el("div", { class: "mfx-columns" }, stairs, losses),
      said,
    );
    const redrawStairs = fitted(stairs, (width) =>
      answer ? runs.staircase(answer, { width, height: 180, cursor: now().t }) : runs.empty(),
    );
    const redrawLosses = fitted(losses, (width) => (answer ? lossCurve(width) : el("p")));
    const now = () => answer.frames[Math.min(state.at, answer.frames.length - 1)];

    function start() {
      if (!answer) return;
      if (quiet()) {
        // No motion: to the next stage of the run at each press.
        const later = answer.frames.findIndex(
          (frame, k) => k > state.at && stage(answer, frame) !== stage(answer, now()),
        );
        go(later < 0 ? 0 : later);
        clock.set(state.at);
        return;
      }
      if (state.at >= answer.frames.length - 1) go(0);
      play.textContent = "Pause";
      timer = setInterval(() => {
        if (state.at >= answer.frames.length - 1) {
          stop();
          return;
        }
        go(state.at + 1);
        clock.set(state.at);
      }, 60);
    }
    function stop() {
      clearInterval(timer);
      timer = 0;
      play.textContent = "Play";
    }

    function go(k) {
      state.at = Math.min(k, answer ? answer.frames.length - 1 : k);
      keep();
      draw();
    }

    function lossCurve(width) {
      const { frames } = answer;
      const floor = Math.max(1e-12 * frames[0].loss, 1e-300);
      const points = frames.map((frame) => [frame.t, Math.log10(Math.max(frame.loss, floor))]);
      const low = Math.max(Math.min(...points.map(([, y]) => y)), Math.log10(frames[0].loss) - 10);
      const high = Math.max(...points.map(([, y]) => y));
      const chart = mflive.pictures.chart({
        width,
        height: 180,
        x: [0, frames.at(-1).t],
        y: [low, high + 0.4],
        xlabel: "time",
        ylabel: "loss",
        name: `The loss over time, from ${digits(frames[0].loss)}, a step for each rank.`,
        yticks: mflive.pictures.ticks(low, high, 4).filter(Number.isInteger),
        ywrite: (k) => (k === 0 ? "1" : `10${raised(k)}`),
      });
      chart.line(points, { stroke: mflive.pictures.hue(0) });
      chart.upright("mfx-cursor", now().t);
      return chart.root;
    }

    function draw() {
      if (!answer) return;
      const frame = now();
      const largest = Math.max(...answer.frames.flatMap((one) => one.W.flat().map(Math.abs))) || 1;
      phase.textContent = `${stage(answer, frame)}.`.replace(/^./, (c) => c.toUpperCase());
      heatBox.replaceChildren(
        el("p", { class: "mfx-caption" }, "W = AB; outlined, what is observed"),
        heatMap(frame.W, state.cells, largest),
      );
      const { root, longest } = arrows(frame, axes, arrowBox.clientWidth || 260);
      arrowBox.replaceChildren(
        el("p", { class: "mfx-caption" }, "rows of A (solid) and columns of B (dashed)"),
        root,
        el("p", { class: "mfx-note" }, `the longest has the length ${small(longest)}`),
      );
      redrawStairs();
      redrawLosses();
    }
    const small = (x) =>
      x >= 1e-3 ? digits(x) : x > 0 ? `10${raised(Math.round(Math.log10(x)))}` : "below 10⁻³⁰⁸";

    async function run() {
      stop();
      busy(true);
      try {
        const found = await asked(
          runs.question(state.cells, { seed: state.seed }, state.scale, FRAMES),
        );
        if (!found) return;
        answer = { cells: state.cells, ...found };
        axes = plane(answer);
        jumps.replaceChildren(
          ...answer.phases.map((one, k) =>
            button(
              `${k === answer.phases.length - 1 ? "the end" : `rest at rank ${one.rank}`}`,
              () => {
                stop();
                const at = answer.frames.findIndex((frame) => frame.t >= one.time - 1e-12);
                go(at < 0 ? answer.frames.length - 1 : at);
                clock.set(state.at);
              },
            ),
          ),
        );
        state.at = Math.min(state.at, answer.frames.length - 1);
        clock.set(state.at);
        draw();
        say(
          runs.doubt(answer) ||
            `Ranks on the way: ${runs.ranks(answer)}. At the end ${runs.summary(answer.W, answer.cells)}.`,
        );
      } catch (error) {
        complain(error.message);
      }
      busy(false);
    }

    run();
  }

  return {
    title: "Time",
    question: "What happens between the start and the answer?",
    begin,
    refuse: ({ at, scale }) =>
      !STOPS.includes(scale) || !(Number.isInteger(at) && at >= 0 && at < FRAMES)
        ? "The link holds a scale or a time that is no stop of the sliders."
        : "",
  };
})();
