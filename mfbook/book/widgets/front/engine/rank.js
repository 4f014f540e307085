"use strict";

// The smallest rank among the matrices that fit: arguments from below that exclude a rank for every
// completion at once, a witness from above. Where they do not meet, the answer says so.
mflive.minRank = (() => {
  const { svd, product, transposed, largestEntry } = mflive.linalg;
  const { rankOne, independentLines, eliminate, rootlessPair } = mflive.exclude;

  // A witness whose entries are so many times the data may be a step on the way to infinity.
  const BLOWN_UP = 1e4;
  // Starts and steps for one rank, in turn; and operations, of which a step takes entries³: about
  // half a second a rank.
  const EFFORTS = [[4, 50], [16, 150], [48, 300]], AFFORDABLE = 5e8;

  const counted = (n) => Array.from({ length: n }, (_, k) => k);

  // The components among the rows and columns that hold a nonzero observed entry; the others fit
  // as zeros. Powers of two bring the entries of each close to one, which changes no rank.
  function componentsOf(values) {
    const nonzero = values.map((row) => row.map((v) => v !== null && v !== 0));
    const alive = (j) => nonzero.some((row) => row[j]);
    const mask = values.map((row, i) =>
      row.map((v, j) => v !== null && nonzero[i].some(Boolean) && alive(j)),
    );
    return mflive.components(mask).map(({ rows, cols }) => {
      const block = rows.map((i) => cols.map((j) => (mask[i][j] ? values[i][j] : 0)));
      const [a, b] = balancing(block);
      const scaled = block.map((row, i) => row.map((v, j) => v * 2 ** a[i] * 2 ** b[j]));
      return {
        values: scaled,
        mask: rows.map((i) => cols.map((j) => mask[i][j])),
        rows, cols, a, b,
        size: largestEntry(scaled),
        name: (entries) => entries.map(([i, j]) => `(${rows[i]},${cols[j]})`).join(" "),
      };
    });
  }

  function balancing(block) {
    const mean = (logs, other) => {
      const kept = logs.flatMap((log, k) => (log === null ? [] : [log + other[k]]));
      return kept.length ? -kept.reduce((x, y) => x + y, 0) / kept.length : 0;
    };
    const logs = block.map((row) => row.map((v) => (v === 0 ? null : Math.log2(Math.abs(v)))));
    let a = block.map(() => 0), b = block[0].map(() => 0);
    for (let k = 0; k < 10; k++) {
      a = logs.map((row) => mean(row, b));
      b = transposed(logs).map((column) => mean(column, a));
    }
    return [a.map(Math.round), b.map(Math.round)];
  }

  // Factors of width `rank` that fit, or null: from the one matrix there can be, if elimination
  // determined it, else from many starts.
  function witness(part, rank, determined) {
    const m = part.values.length, n = part.values[0].length, entries = new mflive.Entries(part);
    if (determined) {
      const { U, s, V } = svd(determined);
      const A = counted(m).map((i) => counted(rank).map((k) => Math.sqrt(s[k]) * U[k][i]));
      const B = counted(rank).map((k) => counted(n).map((j) => Math.sqrt(s[k]) * V[k][j]));
      return entries.search(A, B, 20, 2 * Math.max(part.size, largestEntry(determined)));
    }
    const rng = mflive.rng(rank);
    let left = Math.max(AFFORDABLE / entries.target.length ** 3, 100);
    for (const [starts, steps] of EFFORTS) {
      for (let start = 0; start < starts && left > 0; start++, left -= steps) {
        const A = rng.normals(m, rank), B = rng.normals(rank, n);
        const found = entries.search(A, B, steps, BLOWN_UP * part.size);
        if (found) return found;
      }
    }
    return null;
  }

  // For one component, from rank 1 up: each rank is excluded, or reached, or neither and left.
  function settled(part) {
    const m = part.values.length, n = part.values[0].length;
    const one = rankOne(part);
    if (one.factors) {
      const why = "an observed entry is not zero, which excludes rank 0";
      return { factors: one.factors, bound: 1, why };
    }
    let bound = 2, { why } = one;
    const nothing = part.values.map((row) => row.map(() => 0));
    const plain = independentLines(part, part.values, nothing, part.mask);
    if (plain.count > bound) {
      bound = plain.count;
      ({ why } = plain);
    }
    for (let rank = bound; rank < Math.min(m, n); rank++) {
      const { known, error, seen } = eliminate(part, rank);
      const more = independentLines(part, known, error, seen);
      if (more.count > rank) {
        bound = rank + 1;
        why = `a completion of rank ${rank} has other entries determined, and then ${more.why}`;
        continue;
      }
      const factors = witness(part, rank, seen.flat().every(Boolean) ? known : null);
      if (factors) return { factors, bound, why };
      const excluded = rootlessPair(part, rank);
      if (excluded) {
        bound = rank + 1;
        why = excluded;
      }
    }
    const identity = (k) => counted(k).map((i) => counted(k).map((j) => Number(i === j)));
    const factors = n <= m ? [part.values, identity(n)] : [identity(m), part.values];
    return { factors, bound, why };
  }

  return (values) => {
    const m = values.length, n = values[0].length;
    const parts = componentsOf(values);
    if (!parts.length) {
      const why = "every observed entry is zero, and no rank is smaller";
      const W = values.map((row) => row.map(() => 0));
      return { rank: 0, lower_bound: 0, proven: true, why, W };
    }
    const answers = parts.map(settled);
    const rank = Math.max(...answers.map(({ factors }) => factors[1].length));
    const strongest = answers.reduce((a, b) => (b.bound > a.bound ? b : a));
    const zeros = (rows, cols) => counted(rows).map(() => Array(cols).fill(0));
    const A = zeros(m, rank), B = zeros(rank, n);
    answers.forEach(({ factors: [a, b] }, q) => {
      const part = parts[q];
      part.rows.forEach((row, i) => a[i].forEach((x, k) => (A[row][k] = x / 2 ** part.a[i])));
      part.cols.forEach((col, j) => b.forEach((line, k) => (B[k][col] = line[j] / 2 ** part.b[j])));
    });
    const proven = strongest.bound === rank;
    return {
      rank,
      lower_bound: strongest.bound,
      proven,
      why: proven ? strongest.why : "not proven",
      W: product(A, B),
    };
  };
})();
