"use strict";
// The questions that explorers ask, and what they say of the answers.

mflive.runs = (() => {
  const { el } = mflive.dom;
  const { counted, digits, list } = mflive.numbers;

  const SCALES = [
    0, -1, -2, -3, -4, -6, -8, -10, -15, -20, -30, -50, -100, -200, -300, -500, -1000,
  ];

  // Norms that differ by less are told as equal: ten times the accuracy asked of a run.
  const NEAR = 1e-3;

  // A flow from the start of a seed, or from factors.
  const question = (values, start, log10_scale, frames = 120) => ({
    values,
    ...start,
    log10_scale,
    rtol: 1e-4,
    loss_tol: 1e-12,
    max_steps: 4000,
    max_ms: 4000,
    loss: "mean",
    frames,
  });

  // The completions that no flow finds: of the least nuclear norm, and of the smallest rank.
  const rivals = (ask) => async (values) => {
    const tasks = ["minNuclear", "minRank"].map((task) => ask({ task, values }));
    const [nuclear, rank] = await Promise.all(tasks);
    return { nuclear, rank };
  };

  const sizeOf = (values) =>
    Math.max(
      ...values
        .flat()
        .filter((value) => value !== null)
        .map(Math.abs),
    ) || 1;

  // Singular values above a thousandth of the data count.
  const rankOf = (W, values) => mflive.svd(W).s.filter((s) => s > 1e-3 * sizeOf(values)).length;
  const nuclearNorm = (W) => mflive.svd(W).s.reduce((sum, s) => sum + s, 0);

  // The ranks at which a run rests; of a rank that comes more than once, what its points are.
  function ranks({ phases }) {
    const way = phases.map(({ rank }) => rank).join(" → ");
    const twice = [...new Set(phases.map(({ rank }) => rank))].flatMap((rank) => {
      const rests = phases.slice(0, -1).filter((phase) => phase.rank === rank);
      const ends = phases.at(-1).rank === rank;
      if (rests.length + ends < 2) return [];
      const losses = list(rests.map(({ loss }) => digits(loss, 3)));
      const saddles = `${rests.length > 1 ? "saddles" : "a saddle"} of loss ${losses}`;
      return [`rank ${rank}: ${saddles}${ends ? ", then the end" : ""}`];
    });
    return twice.length ? `${way} (${twice.join("; ")})` : way;
  }

  // Why an answer must not be read as an end, or "".
  const doubt = (answer) =>
    answer.converged
      ? ""
      : `Not an end to quote: after ${counted(answer.n_steps, "step")} the run stopped (${answer.reason}).`;

  const summary = (W, values) =>
    `rank ${rankOf(W, values)}, nuclear norm ${digits(nuclearNorm(W))}`;

  // What is learned, beside the smallest rank and the least nuclear norm there are.
  function verdict(answer, { rank, nuclear }) {
    const learned = rankOf(answer.W, answer.cells);
    const norm = nuclearNorm(answer.W);
    const proof = rank.proven ? "" : " that was found";
    const about =
      learned === rank.rank
        ? `rank ${learned}, the smallest${proof}`
        : `rank ${learned}, where the smallest${proof} is ${rank.rank}`;
    const near = norm <= nuclear.value * (1 + NEAR) + 1e-9;
    const size = near
      ? `nuclear norm ${digits(norm)}, the least there is`
      : `nuclear norm ${digits(norm)}, where the least is ${digits(nuclear.value)}`;
    return `${about}, and ${size}`;
  }

  const CLASSES = {
    connected: "connected",
    "complete-bipartite": "disconnected, all parts complete",
    disconnected: "disconnected, some part incomplete",
  };
  const classOf = (values) =>
    mflive.connectivity(values.map((row) => row.map((value) => value !== null)));

  const topOf = ({ frames }) =>
    Math.max(...frames.map((frame) => frame.singular_values[0])) * 1.25 || 1;

  // Singular values over time, with the ranks at which the run rests. `levels` are others to
  // compare: for each rest those that are drawn across it. `beyond` is how much longer than the run
  // its end is drawn, as a share.
  function staircase(answer, options) {
    const { width, height = 220, cursor = null, top = topOf(answer), levels, beyond = 0 } = options;
    const { phases } = answer;
    const end = answer.frames.at(-1).t * (1 + beyond);
    const frames = [...answer.frames, { ...answer.frames.at(-1), t: end }];
    const plot = mflive.pictures.chart({
      width,
      height,
      x: [0, end],
      y: [0, top],
      xlabel: "time",
      ylabel: "singular values of W",
      name: `Singular values over time. Ranks on the way: ${ranks(answer)}.`,
    });
    phases.forEach((phase, k) => {
      const from = k ? leaves(answer, k - 1) : 0;
      const until = k < phases.length - 1 ? leaves(answer, k) : end;
      if (k) plot.upright("mfx-mark", from);
      if (plot.X(until) - plot.X(from) > 46) {
        plot.note((plot.X(from) + plot.X(until)) / 2, plot.box.top + 10, `rank ${phase.rank}`);
      }
      levels?.[k]?.forEach((level) => plot.level("mfx-level", level, from, until));
    });
    frames[0].singular_values.forEach((_, k) => {
      plot.line(
        frames.map((frame) => [frame.t, frame.singular_values[k]]),
        { stroke: mflive.pictures.hue(k) },
      );
    });
    if (cursor !== null) plot.upright("mfx-cursor", cursor);
    return plot.root;
  }

  // When a run leaves its k-th rest: half of the way in the loss to the next.
  function leaves(answer, k) {
    const [here, there] = [answer.phases[k], answer.phases[k + 1]];
    const half = (here.loss + there.loss) / 2;
    const frame = answer.frames.find(({ t, loss }) => t >= here.time && loss <= half);
    return frame ? frame.t : there.time;
  }

  const card = (name, W, values, note = "") =>
    el(
      "figure",
      { class: "mfx-card" },
      el("figcaption", {}, name),
      W ? mflive.pictures.matrix(W, values, name) : el("p", { class: "mfx-none" }, "no answer"),
      el("p", { class: "mfx-note" }, note || summary(W, values)),
    );

  const empty = () => el("p", { class: "mfx-none" }, "…");
  const waiting = (name) =>
    el("figure", { class: "mfx-card" }, el("figcaption", {}, name), empty());

  // Cards beside each other, each as wide as a matrix of so many columns needs.
  function cards(columns) {
    const box = el("div", { class: "mfx-cards" });
    box.style.setProperty("--card", `${Math.max(9.5, 2.9 * columns)}rem`);
    return box;
  }

  return {
    SCALES,
    CLASSES,
    NEAR,
    rankOf,
    topOf,
    question,
    rivals,
    nuclearNorm,
    ranks,
    doubt,
    summary,
    verdict,
    classOf,
    leaves,
    staircase,
    card,
    waiting,
    cards,
    empty,
  };
})();
