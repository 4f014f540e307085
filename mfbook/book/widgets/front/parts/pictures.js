"use strict";
// What a reader sees: matrices, the observation graph, charts with axes.

mflive.pictures = (() => {
  const { el, svg } = mflive.dom;
  const { counted, digits } = mflive.numbers;
  // Okabe and Ito's colours, in the order of the book's figures.
  const HUES = [
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#666666",
    "#8A6D00",
  ];
  const hue = (k) => HUES[k % HUES.length];

  // Rows of cells, in a box that scrolls where they do not fit.
  function table(rows, name) {
    const named = { "aria-label": name };
    const inner = el("table", { class: "mfx-matrix", ...named }, el("tbody", {}, rows));
    return mflive.dom.reachable(el("div", { class: "mfx-scroll", role: "group", ...named }, inner));
  }

  // The problem itself, a star where nothing is observed.
  function given(values, name) {
    const cell = (value) =>
      value === null
        ? el("td", { class: "mfx-free" }, "★")
        : el("td", { class: "mfx-seen" }, digits(value, 3));
    return table(
      values.map((row) => el("tr", {}, row.map(cell))),
      name,
    );
  }

  // The entries of W; those that are observed are shaded, the others stand out.
  function matrix(W, values, name) {
    const row = (entries, i) =>
      el(
        "tr",
        {},
        entries.map((x, j) => {
          const seen = values[i]?.[j] !== null && values[i]?.[j] !== undefined;
          return el("td", { class: seen ? "mfx-seen" : "mfx-free" }, digits(x, 3));
        }),
      );
    return table(W.map(row), name);
  }

  const places = (indices) => mflive.numbers.list(indices.map((i) => String(i + 1)));

  function inWords(parts) {
    const many = (word, indices) => `${word}${indices.length > 1 ? "s" : ""} ${places(indices)}`;
    const of = ({ rows, cols }) => `${many("row", rows)} with ${many("column", cols)}`;
    return parts.map(of).join("; ");
  }

  // Rows on the left, columns on the right, a colour a component.
  function graph(values) {
    const mask = values.map((row) => row.map((value) => value !== null));
    const parts = mflive.components(mask);
    const [m, n] = [mask.length, mask[0].length];
    const step = 34;
    const height = step * Math.max(m, n) + 8;
    const y = (k, count) => height / 2 + step * (k - (count - 1) / 2);
    const lines = [];
    const dots = [];
    const part = (side, k) => parts.findIndex((one) => one[side].includes(k));
    for (let i = 0; i < m; i += 1) {
      for (let j = 0; j < n; j += 1) {
        if (mask[i][j]) {
          lines.push(
            svg("line", {
              x1: 24,
              x2: 156,
              y1: y(i, m),
              y2: y(j, n),
              stroke: hue(part("rows", i)),
            }),
          );
        }
      }
    }
    for (const [side, x, count, letter] of [
      ["rows", 24, m, "r"],
      ["cols", 156, n, "c"],
    ]) {
      for (let k = 0; k < count; k += 1) {
        const found = part(side, k);
        const stroke = found < 0 ? "currentColor" : hue(found);
        dots.push(
          svg("circle", {
            cx: x,
            cy: y(k, count),
            r: 13,
            stroke,
            class: found < 0 ? "mfx-alone" : "",
          }),
          svg(
            "text",
            { x, y: y(k, count) + 4, "text-anchor": "middle" },
            letter,
            svg("tspan", { dy: 3, "font-size": "9" }, String(k + 1)),
          ),
        );
      }
    }
    return svg(
      "svg",
      {
        class: "mfx-graph",
        viewBox: `0 0 180 ${height}`,
        width: 180,
        height,
        role: "img",
        "aria-label": `Observation graph. ${counted(parts.length, "component")}: ${inWords(parts)}.`,
      },
      lines,
      dots,
    );
  }

  // A few round numbers between low and high.
  function ticks(low, high, about = 5) {
    const raw = (high - low) / about || 1;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((k) => k * unit).find((s) => s >= raw * 0.999);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) {
      found.push(Math.abs(k * step) < step * 1e-9 ? 0 : k * step);
    }
    return found;
  }

  // Axes in pixels, so that letters have one size at every width.
  function chart({ width, height, x, y, xlabel, ylabel, name, xticks, yticks, xwrite, ywrite }) {
    const [left, right, top, bottom] = [50, 20, 10, 38];
    const X = (value) => left + ((width - left - right) * (value - x[0])) / (x[1] - x[0] || 1);
    const Y = (value) =>
      height - bottom - ((height - top - bottom) * (value - y[0])) / (y[1] - y[0] || 1);
    const write = (value) => mflive.numbers.digits(value, 3);
    const root = svg("svg", { class: "mfx-chart", width, height, role: "img", "aria-label": name });
    for (const value of xticks ?? ticks(...x, Math.max(3, width / 110))) {
      root.append(
        svg("line", {
          class: "mfx-grid-line",
          x1: X(value),
          x2: X(value),
          y1: top,
          y2: height - bottom,
        }),
        svg(
          "text",
          { x: X(value), y: height - bottom + 15, "text-anchor": "middle" },
          (xwrite ?? write)(value),
        ),
      );
    }
    for (const value of yticks ?? ticks(...y, height / 50)) {
      root.append(
        svg("line", {
          class: "mfx-grid-line",
          x1: left,
          x2: width - right,
          y1: Y(value),
          y2: Y(value),
        }),
        svg(
          "text",
          { x: left - 6, y: Y(value) + 4, "text-anchor": "end" },
          (ywrite ?? write)(value),
        ),
      );
    }
    root.append(
      svg("line", {
        class: "mfx-axis",
        x1: left,
        x2: width - right,
        y1: height - bottom,
        y2: height - bottom,
      }),
      svg("line", { class: "mfx-axis", x1: left, x2: left, y1: top, y2: height - bottom }),
      svg(
        "text",
        { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" },
        xlabel,
      ),
      svg(
        "text",
        {
          x: 0,
          y: 0,
          "text-anchor": "middle",
          transform: `translate(10 ${(top + height - bottom) / 2}) rotate(-90)`,
        },
        ylabel,
      ),
    );
    const held = (v, [low, high]) => Math.min(high, Math.max(low, v));
    const line = (points, attributes) =>
      root.append(
        svg("polyline", {
          class: "mfx-line",
          fill: "none",
          points: points
            .map(([a, b]) => `${X(a).toFixed(1)},${Y(held(b, y)).toFixed(1)}`)
            .join(" "),
          ...attributes,
        }),
      );
    const box = { left, right: width - right, top, bottom: height - bottom };
    const draw = (name, attributes, ...children) => root.append(svg(name, attributes, ...children));
    return {
      root,
      box,
      X,
      Y,
      line,
      upright: (kind, at, from = top) =>
        draw("line", { class: kind, x1: X(at), x2: X(at), y1: from, y2: box.bottom }),
      level: (kind, at, from = x[0], until = x[1]) =>
        draw("line", { class: kind, x1: X(from), x2: X(until), y1: Y(at), y2: Y(at) }),
      dot: (kind, a, b, r) => draw("circle", { class: kind, cx: X(a), cy: Y(held(b, y)), r }),
      note: (across, up, words, anchor = "middle") =>
        draw("text", { class: "mfx-halo", x: across, y: up, "text-anchor": anchor }, words),
    };
  }

  return { hue, table, given, matrix, graph, chart, ticks };
})();
