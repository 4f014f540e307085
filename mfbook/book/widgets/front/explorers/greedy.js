"use strict";
// Greedy: the points that greedy low-rank learning (GLRL) passes, beside the flow's own way.

mflive.explorers.greedy = (() => {
  const { el, fitted, reachable } = mflive.dom;
  const { digits, power, raised, list } = mflive.numbers;
  const { choice, written } = mflive.controls;
  const runs = mflive.runs;
  const { product } = mflive.linalg;
  const FRAMES = 160;
  const { UNBOUNDED, ROUNDING } = mflive.REASONS;
  // Rates that differ by less share are told as equal, or as nearly equal.
  const TIED = 1e-6;
  const NEARLY = 0.05;
  // A curvature below this share of the largest counts as negative.
  const BENT = 1e-4;
  // What a distance means is lost below the accuracy of a run in a page.
  const FLOOR = -4;

  const q = null;
  const EXAMPLES = {
    "they agree": [
      [4, 0.6, 1.8, 0.8],
      [6, 0.9, 2.7, q],
      [8, 2.2, 2.6, 1.6],
      [8, 2.7, 5.1, 3.6],
    ],
    "only from far below": [
      [1, 10],
      [10, q],
    ],
    "a tie": [
      [1, 1],
      [1, -1],
    ],
    "a saddle by symmetry": [
      [-1, 1, 1],
      [1, -1, 1],
      [q, q, 2],
    ],
    "a slower column with a head start": [
      [4, q, 3, q],
      [q, 4, q, 3],
      [2, q, q, 3],
      [q, 2, 3, q],
    ],
    "GLRL runs away": [
      [2, 1, 1],
      [-1, -1, -1],
      [2, -3, q],
    ],
  };
  const sameAs = (cells) =>
    Object.keys(EXAMPLES).find(
      (name) => mflive.text.write(EXAMPLES[name]) === mflive.text.write(cells),
    );

  const python = ({ cells, seed, scale }) =>
    [
      "import mfbook as mf",
      "",
      `problem = mf.MatrixCompletion.from_text("${mflive.text.write(cells)}")`,
      "path = mf.glrl(problem)",
      `factors = mf.small_init(problem.shape, rng=${seed})`,
      `run = mf.gradient_flow(problem, factors, log10_scale=${scale})`,
      "print(path, run, sep='\\n')",
      "for r, W in enumerate(path.critical_points):",
      "    near = min(run.phases, key=lambda phase: abs(phase.W - W).max())",
      "    print(r, problem.loss_value(W), abs(near.W - W).max())",
    ].join("\n");

  const minus = (V, W) => V.map((row, i) => row.map((x, j) => x - W[i][j]));
  const size = (W) => Math.sqrt(W.flat().reduce((sum, x) => sum + x * x, 0));
  const apart = (V, W) => size(minus(V, W));
  const singular = (W) => Array.from(mflive.svd(W).s);
  const name = (r) => `W${[...String(r)].map((d) => "₀₁₂₃₄₅₆₇₈₉"[d]).join("")}`;
  const seen = (cells) => cells.flat().filter((value) => value !== null).length;

  // −∇f at W, and the loss there.
  const pull = (W, cells) =>
    W.map((row, i) =>
      row.map((x, j) => (cells[i][j] === null ? 0 : (2 / seen(cells)) * (cells[i][j] - x))),
    );
  const lossOf = (W, cells) => (seen(cells) / 4) * size(pull(W, cells)) ** 2;

  const isSettled = ({ converged, reason }) => converged || reason === "rank limit";

  // GLRL's critical points with what decides about them: the pairs of −∇f along which one leaves,
  // and whether they are saddles among the matrices of their rank. Of a path that did not arrive
  // the last point is only as far as it was followed.
  function landmarks(path, cells) {
    const points = path.critical_points.slice(0, isSettled(path) ? undefined : -1);
    const whole = runs.classOf(cells) === "connected";
    return points.map((W, r) => {
      const G = mflive.svd(pull(W, cells));
      const { least, largest } = mflive.curvature(W, cells, r);
      return {
        r,
        W,
        G,
        loss: lossOf(W, cells),
        singular: singular(W),
        // A part that is still to come would make every point one.
        saddle: whole && least < -BENT * largest,
        tie: G.s[0] > 0 && G.s[1] >= (1 - TIED) * G.s[0],
        nearTie: G.s[0] > 0 && G.s[1] >= (1 - NEARLY) * G.s[0],
      };
    });
  }

  // Where a run comes nearest to W, among its rests and its frames.
  function nearest(answer, W) {
    const rests = answer.phases.map((phase) => ({ ...phase, t: phase.time }));
    return [...rests, ...answer.frames]
      .map((one) => ({ ...one, distance: apart(one.W, W) }))
      .reduce((best, one) => (one.distance < best.distance ? one : best));
  }

  // Which pair of −∇f the run takes when it leaves a landmark: the one with the largest share of
  // its first step away.
  function pairTaken(answer, { W, G }, from) {
    const far = 0.05 * Math.max(size(W), size(answer.W));
    const after = answer.frames.find(({ t, W: V }) => t > from.t && apart(V, from.W) > far);
    if (!after) return null;
    const step = minus(after.W, from.W);
    const along = G.s.map((_, k) => {
      const turned = product([Array.from(G.U[k])], step)[0];
      return turned.reduce((sum, x, j) => sum + x * G.V[k][j], 0) ** 2;
    });
    const pair = along.indexOf(Math.max(...along));
    return { pair, share: along[pair] / size(step) ** 2 };
  }

  function begin({ body, said, state, ask, where, say, complain, busy, keep }) {
    const askPath = mflive.ask.latest(ask);
    const known = new Map();
    let path = null;
    let points = [];
    let answer = null;
    let looked = null;

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
      label: "or your own matrix; ? is an unknown entry",
      values: state.cells,
      onread: (values, error) => {
        text.refuse(error ?? "");
        if (!error) take(values);
      },
    });
    const scale = mflive.controls.scale({
      stops: runs.SCALES,
      at: state.scale,
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
    const foot = mflive.foot({ kind: "greedy", state, where, python });

    const greedy = el("div", { class: "mfx-plot" });
    const flow = el("div", { class: "mfx-plot" });
    const passed = el("div", {});
    const rests = el("div", {});
    const look = el("div", {});
    const pair = el("div", { class: "mfx-pair" });
    const ends = el("div", { class: "mfx-plot" });
    const endsCaption = el("p", { class: "mfx-caption" });
    body.append(
      which.node,
      text.node,
      el("div", { class: "mfx-row" }, scale.node, seed.node),
      el(
        "div",
        { class: "mfx-columns" },
        el("div", {}, el("p", { class: "mfx-caption" }, "GLRL, phase by phase"), greedy),
        el(
          "div",
          {},
          el("p", { class: "mfx-caption" }, "the flow; dotted, GLRL at the same rank"),
          flow,
        ),
      ),
      said,
      el("div", { class: "mfx-columns mfx-top" }, passed, rests),
      el(
        "div",
        { class: "mfx-columns mfx-top" },
        el("div", {}, look, pair),
        el("div", {}, endsCaption, ends),
      ),
      ...foot.nodes,
    );
    const redraw = [
      fitted(greedy, (width) => (path ? stairs(width) : runs.empty())),
      fitted(flow, (width) => (path && answer ? run(width) : runs.empty())),
      fitted(ends, (width) => (path ? tail(width) : runs.empty())),
    ];

    function take(cells) {
      complain("");
      state.cells = cells;
      changed();
    }

    // ---- questions

    const key = (at) => `${state.seed} ${at}`;
    let asking = 0;
    async function changed() {
      asking += 1;
      const mine = asking;
      which.set(sameAs(state.cells));
      foot.changed();
      keep();
      busy(true);
      const { cells } = state;
      try {
        if (path?.cells !== cells) {
          path = null;
          answer = null;
          known.clear();
          const found = await askPath({ task: "glrl", values: cells });
          if (!found || mine !== asking) return;
          path = { cells, ...found };
          points = landmarks(path, cells);
          looked = null;
        }
        // The chosen scale in detail, then the ends from all others, the nearest first.
        const order = [...runs.SCALES].sort((a, b) => away(a) - away(b));
        for (const at of order) {
          const before = known.get(key(at));
          const frames = at === state.scale ? FRAMES : 2;
          if (!before || before.frames.length < frames) {
            const found = await ask(runs.question(cells, { seed: state.seed }, at, frames));
            if (mine !== asking) return;
            known.set(key(at), { cells, ...found });
          }
          if (at === state.scale) answer = known.get(key(at));
          show();
        }
      } catch (error) {
        if (mine !== asking) return;
        complain(error.message);
      }
      busy(false);
    }
    const away = (at) => Math.abs(runs.SCALES.indexOf(at) - runs.SCALES.indexOf(state.scale));

    // ---- what they mean

    const settled = () => isSettled(path);
    const last = () => points.at(-1);
    // Two matrices are told as one where they are this near.
    const close = (W) => runs.NEAR * Math.max(size(W), size(last().W));
    // Where a run comes nearest to each point; to the last one its end counts.
    const approaches = (one) =>
      points.map(({ r, W }) =>
        r === last().r && settled() ? { ...one, distance: apart(one.W, W) } : nearest(one, W),
      );

    function verdict() {
      const doubt = runs.doubt(answer);
      if (doubt) {
        return answer.reason === ROUNDING ? `${doubt} A larger start may show more.` : doubt;
      }
      if (!settled()) return stopped();
      const R = last().r;
      if (R === 0) return "Zero fits the data: there is nothing to learn.";
      const near = approaches(answer);
      const missed = points.slice(1, -1).filter(({ r, W }) => near[r].distance > close(W));
      const final = near[R].distance;
      const from = `the flow from α = ${power(state.scale)}`;
      const by = missed.map(({ r }) => `${name(r)} by ${digits(near[r].distance, 2)}`);
      const between = list(points.slice(1, -1).map(({ r }) => name(r)));
      if (final <= close(last().W)) {
        if (missed.length) {
          return `They end together, but ${from} misses ${list(by)}. ${reason(missed[0].r, near)}`;
        }
        const passes = between && `passes ${between} and `;
        return `They agree: ${from} ${passes}ends at ${name(R)}.${warning()}`;
      }
      const way = missed.length
        ? `, and misses ${list(by)}`
        : between && `, after both have passed ${between}`;
      return (
        `They part: ${from} ends at the distance ${digits(final, 3)} from ${name(R)}${way}. ` +
        reason(missed.length ? missed[0].r : R, near)
      );
    }

    // Why the flow does not come to W_r, as far as this page can know.
    function reason(r, near) {
      const [before, here] = [points[r - 1], points[r]];
      const rate = (k) => digits(before.G.s[k], 3);
      if (before.tie) {
        return (
          `At ${name(r - 1)} two directions tie, both with the rate ${rate(0)}: GLRL takes one of ` +
          "them, and the flow a mixture that its start decides."
        );
      }
      const parts = mflive.components(state.cells.map((row) => row.map((value) => value !== null)));
      if (parts.length > 1 && within(parts, near[r].W, here.W) <= close(here.W)) {
        return (
          "The data fall into parts, and the loss says nothing of the entries between them: GLRL " +
          "leaves these at 0, the flow fills them as its start decides."
        );
      }
      const smaller = agreesFrom();
      if (smaller !== undefined) {
        return `The start is not small enough: from ${power(smaller)} they agree.`;
      }
      const odd = [before, here].find(({ saddle }) => saddle);
      if (odd) return `${name(odd.r)} ${OFF(odd.r)}.`;
      const from = near[r - 1];
      const taken = from.distance <= close(before.W) ? pairTaken(answer, before, from) : null;
      if (taken && taken.pair > 0 && taken.share > 0.5) {
        return (
          `At ${name(r - 1)} the flow leaves along direction ${taken.pair + 1} of the gradient, of ` +
          `rate ${rate(taken.pair)}, and not along the first, of rate ${rate(0)}: the column of the ` +
          "slower one was larger when the flow came there."
        );
      }
      if (before.nearTie) {
        return (
          `At ${name(r - 1)} two directions nearly tie (rates ${rate(0)} and ${rate(1)}): it takes a ` +
          "much smaller start to tell them apart."
        );
      }
      return from.distance <= close(before.W)
        ? "Why, this page cannot tell."
        : "Why is seen from a smaller start, whose phases stand further apart.";
    }
    const OFF = (r) =>
      `is a saddle among the matrices of rank ${r}: a push that stays in this rank leads off it`;

    // What does no harm here, but is no case of the theorem.
    function warning() {
      const tied = points.slice(0, -1).find(({ tie }) => tie);
      if (tied) return ` And yet two directions tie at ${name(tied.r)}.`;
      const odd = points.slice(1).find(({ saddle }) => saddle);
      return odd ? ` And yet ${name(odd.r)} ${OFF(odd.r)}.` : "";
    }

    // How far apart two matrices are within the parts of the data.
    const within = (parts, V, W) =>
      size(
        minus(V, W).map((row, i) =>
          row.filter((_, j) => parts.some((one) => one.rows.includes(i) && one.cols.includes(j))),
        ),
      );

    // The largest smaller start that is known to pass all of GLRL's points.
    const agreesFrom = () =>
      runs.SCALES.filter((at) => at < state.scale).find((at) => {
        const one = known.get(key(at));
        return (
          one?.converged &&
          approaches(one).every(({ distance }, k) => distance <= close(points[k].W))
        );
      });

    function stopped() {
      const R = points.length;
      const [top] = singular(path.W);
      const learned = singular(answer.W).filter((s) => s > 5e-4);
      const flow =
        `The flow from α = ${power(state.scale)} ends with the singular values ` +
        `${list(learned.map((s) => digits(s, 3)))}`;
      if (path.reason !== UNBOUNDED) {
        return `GLRL was stopped in its phase ${R} (${path.reason}). ${flow}.`;
      }
      return (
        `GLRL runs away in its phase ${R}: its largest singular value has reached ${digits(top, 2)}, ` +
        `and no ${name(R)} is in sight. ${flow}: other directions take over first${goesOn()}.`
      );
    }
    // How far the flow goes from the smallest start that is known.
    function goesOn() {
      const found = runs.SCALES.filter((at) => known.get(key(at))?.converged);
      const at = found.at(-1);
      const [far] = singular(known.get(key(at)).W);
      const further = far > 1.5 * singular(answer.W)[0];
      return further ? `; from ${power(at)} they do so at ${digits(far, 3)}` : "";
    }

    // ---- what is drawn

    function show() {
      redraw.forEach((draw) => draw());
      table();
      chooser();
      if (answer) say(verdict());
    }

    const height = 210;
    const top = () => {
      const tops = points.map((one) => 1.25 * one.singular[0]);
      return Math.max(answer ? runs.topOf(answer) : 0, ...tops) || 1;
    };

    function stairs(width) {
      const count = points.length + (settled() ? 0 : 1);
      const plot = mflive.pictures.chart({
        width,
        height,
        x: [0, count],
        y: [0, top()],
        xlabel: "critical point",
        ylabel: "singular values",
        name: `Singular values of GLRL's critical points. Their ranks: ${path.ranks.join(" → ")}.`,
        xticks: points.map(({ r }) => r + 0.5),
        xwrite: (at) => name(at - 0.5),
      });
      last().singular.forEach((_, k) => {
        const way = points.flatMap(({ r, singular: s }) => [
          [r, s[k]],
          [r + 1, s[k]],
        ]);
        if (!settled()) way.push([count, k === 0 ? top() : singular(path.W)[k]]);
        plot.line(way, { stroke: mflive.pictures.hue(k) });
      });
      if (!settled()) {
        const how = path.reason === UNBOUNDED ? "runs away" : "stopped";
        plot.note(plot.X(count - 0.5), plot.box.bottom - 8, how);
      }
      return plot.root;
    }

    function run(width) {
      const { phases } = answer;
      const levels = phases.map(({ rank }, k) => {
        const one = k === phases.length - 1 ? settled() && last() : points[rank];
        return one ? one.singular.slice(0, one.r) : [];
      });
      return runs.staircase(answer, { width, height, top: top(), levels });
    }

    const row = (head, words) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, head),
        words.map((one) => el("td", {}, one)),
      );
    const titles = (words) => words.map((one) => el("th", { scope: "col" }, one));
    const numbers = (caption, head, rows) =>
      reachable(
        el(
          "div",
          { class: "mfx-scroll", role: "group", "aria-label": caption },
          el(
            "table",
            { class: "mfx-table" },
            el("caption", {}, caption),
            el("thead", {}, el("tr", {}, titles(head))),
            el("tbody", {}, rows),
          ),
        ),
      );
    const sizes = (values, rank) =>
      values
        .slice(0, rank)
        .map((s) => digits(s, 3))
        .join(", ") || "0";

    function table() {
      const near = answer && approaches(answer);
      passed.replaceChildren(
        numbers(
          "GLRL passes",
          ["", "loss", "singular values", "the flow's distance"],
          points.map(({ r, loss, singular: s, W }) =>
            row(name(r), [
              digits(loss, 3),
              sizes(s, r),
              near ? distance(near[r].distance, close(W)) : "…",
            ]),
          ),
        ),
      );
      if (!answer) return;
      rests.replaceChildren(
        numbers(
          "the flow rests",
          ["at rank", "time", "loss", "singular values"],
          answer.phases.map((phase, k) =>
            row(`${phase.rank}${k === answer.phases.length - 1 ? ", end" : ""}`, [
              digits(phase.time, 3),
              digits(phase.loss, 3),
              sizes(singular(phase.W), phase.rank),
            ]),
          ),
        ),
      );
    }
    const distance = (d, limit) => (d <= limit ? `below ${digits(limit, 1)}` : digits(d, 2));

    // The entries of one critical point beside those of the flow nearby, or both ends.
    function chooser() {
      if (!answer) return;
      const { cells } = state;
      const near = approaches(answer);
      const missed = points.find(({ r, W }) => r && near[r].distance > close(W));
      const at = points.find(({ r }) => r === looked) ?? missed ?? last();
      const end = !settled() || at === last();
      pair.style.setProperty("--card", `${2.9 * cells[0].length}rem`);
      pair.replaceChildren(
        settled()
          ? runs.card(`GLRL at ${name(at.r)}`, at.W, cells)
          : runs.card("GLRL, as far as followed", path.W, cells),
        end
          ? runs.card("the flow's end", answer.W, cells, runs.doubt(answer))
          : runs.card("the flow nearby", near[at.r].W, cells),
      );
      const options = points.slice(1).map(({ r }) => [r, name(r)]);
      const onchoose = (r) => {
        looked = r;
        chooser();
      };
      look.replaceChildren(
        settled() && options.length > 1
          ? choice({ label: "Look at", options, at: at.r, onchoose }).node
          : "",
      );
    }

    // How far apart the ends are, or how far the flow goes where GLRL runs away, at every scale.
    function tail(width) {
      const all = runs.SCALES.map((at, k) => [k, known.get(key(at)), at]);
      const found = all.filter(([, one]) => one);
      const away = !settled();
      const what = away ? "how far the flow goes" : "how far apart they end";
      const hollow = found.some(([, one]) => !one.converged) ? "; hollow, no end to quote" : "";
      endsCaption.textContent = `${what}, by the size of the start${hollow}`;
      const value = away
        ? (one) => singular(one.W)[0]
        : (one) => Math.max(FLOOR, Math.log10(apart(one.W, last().W) / (size(last().W) || 1)));
      const values = found.map(([, one]) => value(one));
      const highest = Math.max(0, ...values);
      const y = away ? [0, 1.15 * highest || 1] : [FLOOR, highest + 0.4];
      const every = width < 420 ? 4 : 2;
      const plot = mflive.pictures.chart({
        width,
        height: 220,
        x: [0, runs.SCALES.length - 1],
        y,
        xlabel: "size of the start, α",
        ylabel: away ? "largest singular value" : "relative distance",
        name: away
          ? "The largest singular value of what the flow learns, at every size of the start."
          : "The distance of the ends over the size of GLRL's, at every size of the start.",
        xticks: runs.SCALES.map((_, k) => k).filter((k) => k % every === 0),
        xwrite: (k) => power(runs.SCALES[k]),
        ...(away
          ? {}
          : {
              yticks: [-4, -3, -2, -1, 0],
              ywrite: (k) => (k === 0 ? "1" : k === FLOOR ? "less" : `10${raised(k)}`),
            }),
      });
      plot.line(
        found.map(([k, one]) => [k, value(one)]),
        { stroke: mflive.pictures.hue(0) },
      );
      for (const [k, one, at] of found) {
        const chosen = at === state.scale;
        plot.dot(
          `mfx-dot${one.converged ? "" : " mfx-unsure"}${chosen ? " mfx-chosen" : ""}`,
          k,
          value(one),
          chosen ? 7 : 4,
        );
      }
      return plot.root;
    }

    changed();
  }

  return {
    title: "Greedy",
    question: "Does the flow from almost nothing follow the greedy path, and where it does not, why?",
    begin,
    refuse: ({ seed, scale }) =>
      !mflive.controls.isSeed(seed) || !runs.SCALES.includes(scale)
        ? "The link holds a scale or a seed that is no stop of the controls."
        : "",
  };
})();
