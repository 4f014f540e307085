"use strict";

// Who is linked: rows and columns are the vertices, observed entries the edges.

// The connected components {rows, cols}, by their smallest row; what is not observed is in none.
mflive.components = (mask) => {
  const rowsLeft = new Set(mask.flatMap((row, i) => (row.some(Boolean) ? [i] : [])));
  const found = [];
  while (rowsLeft.size) {
    const first = Math.min(...rowsLeft), waiting = [first];
    const rows = new Set(waiting), cols = new Set();
    rowsLeft.delete(first);
    while (waiting.length) {
      mask[waiting.pop()].forEach((seen, j) => {
        if (!seen || cols.has(j)) return;
        cols.add(j);
        for (const i of [...rowsLeft]) {
          if (!mask[i][j]) continue;
          rowsLeft.delete(i);
          rows.add(i);
          waiting.push(i);
        }
      });
    }
    const rising = (set) => [...set].sort((a, b) => a - b);
    found.push({ rows: rising(rows), cols: rising(cols) });
  }
  return found;
};

// "connected", "disconnected", or "complete-bipartite": disconnected with complete components.
mflive.connectivity = (mask) => {
  const parts = mflive.components(mask);
  if (!parts.length) throw new Error("no entry is observed: the graph is empty; observe one");
  if (parts.length === 1) return "connected";
  const isFull = ({ rows, cols }) => rows.every((i) => cols.every((j) => mask[i][j]));
  return parts.every(isFull) ? "complete-bipartite" : "disconnected";
};

// Where the flow of W itself ends, from W = 0: zeros where nothing is observed.
mflive.zeroFilled = (values) => values.map((row) => row.map((v) => v ?? 0));

mflive.maskOf = (values) => values.map((row) => row.map((v) => v !== null));
