"use strict";

// Arguments that exclude a rank for every completion of one component at once, as those of
// mf.min_rank. A component is {values, mask, size, rows, cols, name}, scaled to entries near one.
mflive.exclude = (() => {
  const { EPS, svd, singularValues, transposed } = mflive.linalg;

  // An equation between entries counts as violated beyond this.
  const NOISE = 64 * EPS;

  const counted = (n) => Array.from({ length: n }, (_, k) => k);
  const members = (set, n) => counted(n).filter((k) => (set >> k) & 1);

  function normOf(rows) {
    let square = 0;
    for (const row of rows) for (const x of row) square += x * x;
    return Math.sqrt(square);
  }

  // The ways to choose k of 0, …, n − 1.
  function* choices(n, k, from = 0) {
    if (k === 0) {
      yield [];
      return;
    }
    for (let i = from; i <= n - k; i++) {
      for (const others of choices(n, k - 1, i + 1)) yield [i, ...others];
    }
  }

  // Rank 1, exactly: potentials along a spanning tree, and the cycle that contradicts them.
  function rankOne({ values, mask, name }) {
    const m = values.length, n = values[0].length;
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        if (mask[i][j] && values[i][j] === 0) {
          return {
            why:
              `the observed zero at ${name([[i, j]])} meets a nonzero entry of its row and one ` +
              "of its column, which excludes rank 1",
          };
        }
      }
    }
    const u = Array(m).fill(null), v = Array(n).fill(null);
    // Vertices are the rows, then the columns; each knows how it was reached.
    const parent = Array(m + n).fill(null), waiting = [0];
    u[0] = 1;
    for (const vertex of waiting) {
      const isRow = vertex < m, reach = isRow ? n : m;
      for (let k = 0; k < reach; k++) {
        const [i, j] = isRow ? [vertex, k] : [k, vertex - m];
        const other = isRow ? m + k : k;
        if (!mask[i][j] || (isRow ? v[j] : u[i]) !== null) continue;
        if (isRow) v[j] = values[i][j] / u[i];
        else u[i] = values[i][j] / v[j];
        parent[other] = vertex;
        waiting.push(other);
      }
    }
    let worst = -1, edge = null;
    mask.forEach((row, i) => {
      row.forEach((seen, j) => {
        const off = seen ? Math.abs((u[i] * v[j]) / values[i][j] - 1) : -1;
        if (off > worst) {
          worst = off;
          edge = [i, j];
        }
      });
    });
    const cycle = cycleOf(edge, parent, m);
    if (worst <= NOISE * cycle.length) return { factors: [u.map((x) => [x]), [v]] };
    let product = 1;
    cycle.forEach(([i, j], k) => {
      product = k % 2 ? product / values[i][j] : product * values[i][j];
    });
    const off = product - 1;
    const is = `the alternating product around the cycle ${name(cycle)}`;
    if (Math.abs(off) < 1e-3) return { why: `${is} differs from 1 by ${short(off, 3)}` };
    return { why: `${is} is ${short(product, 6)}, not 1` };
  }

  const short = (x, digits) => String(Number(x.toPrecision(digits)));

  // The entries from the column of an edge along the tree to its row, after the edge itself.
  function cycleOf([i, j], parent, m) {
    const up = (vertex) => {
      const found = [vertex];
      while (parent[found[found.length - 1]] !== null) found.push(parent[found[found.length - 1]]);
      return found;
    };
    const left = up(i), right = up(m + j);
    const meet = left.find((vertex) => right.includes(vertex));
    const down = right.slice(0, right.indexOf(meet)).reverse();
    const path = [...left.slice(0, left.indexOf(meet) + 1), ...down];
    const closed = [m + j, ...path];
    return path.map((vertex, k) => {
      const [x, y] = [closed[k], vertex];
      return x < m ? [x, y - m] : [y, x - m];
    });
  }

  // The block with its rows and columns scaled so that the largest of each is about one.
  function levelled(block) {
    for (let turn = 0; turn < 4; turn++) {
      const scaled = block.map((row) => {
        const size = Math.max(...row.map(Math.abs));
        return size ? row.map((x) => x / 2 ** Math.floor(Math.log2(size) + 1)) : row;
      });
      block = transposed(scaled);
    }
    return block;
  }

  // The longest sequence of rows of which each is no combination of those before it on the columns
  // where all of them are known; they are independent in every completion.
  function independentLines(part, known, error, seen) {
    let line = "rows", names = part.rows;
    if (known.length > known[0].length) {
      [known, error, seen] = [known, error, seen].map(transposed);
      line = "columns";
      names = part.cols;
    }
    const m = known.length, n = known[0].length, noise = NOISE * part.size, ranks = new Map();
    const columns = seen.map((row) => row.reduce((set, s, j) => (s ? set | (1 << j) : set), 0));
    const rank = (lines, shared, surely) => {
      if (!lines || !shared) return 0;
      const key = `${lines},${shared},${surely}`;
      if (!ranks.has(key)) {
        const rows = members(lines, m), cols = members(shared, n);
        const block = (M) => rows.map((i) => cols.map((j) => M[i][j]));
        // At most: against a larger entry elsewhere, a rank would be taken for less than it is.
        const s = singularValues(surely ? block(known) : levelled(block(known)));
        const least = surely ? noise + 4 * normOf(block(error)) : NOISE;
        ranks.set(key, s.filter((size) => size > least).length);
      }
      return ranks.get(key);
    };
    let best = { chosen: [] }, reached = new Map([[0, { chosen: [], shared: (1 << n) - 1 }]]);
    while (reached.size) {
      const longer = new Map();
      for (const [lines, { chosen, shared }] of reached) {
        for (let i = 0; i < m; i++) {
          const more = lines | (1 << i);
          if (more === lines || longer.has(more)) continue;
          const common = shared & columns[i];
          if (rank(more, common, true) > rank(lines, common, false)) {
            longer.set(more, { chosen: [...chosen, i], shared: common });
          }
        }
      }
      reached = longer;
      if (reached.size) best = reached.values().next().value;
    }
    const shown = best.chosen.map((i) => names[i]).join(", ");
    return {
      count: best.chosen.length,
      why:
        `each of the ${line} ${shown} is no combination of those before it in the places where ` +
        "all of them are known",
    };
  }

  // Entries that every completion of at most this rank shares: if `rank` rows S are independent on
  // the columns K where they and row i are known, row i is x · (rows S) wherever those are known.
  function eliminate(part, rank) {
    const { size: scale, mask } = part;
    const known = part.values.map((row) => row.slice()), seen = mask.map((row) => row.slice());
    const error = seen.map((row) => row.map((s) => (s ? NOISE * scale : 0)));
    const m = known.length, n = known[0].length;
    for (let changed = true; changed; ) {
      changed = false;
      for (const S of choices(m, rank)) {
        const common = counted(n).filter((j) => S.every((i) => seen[i][j]));
        if (common.length <= rank) continue;
        for (let i = 0; i < m; i++) {
          if (S.includes(i)) continue;
          const K = common.filter((j) => seen[i][j]), fresh = common.filter((j) => !seen[i][j]);
          if (K.length < rank || !fresh.length) continue;
          const of = (M, cols) => S.map((k) => cols.map((j) => M[k][j]));
          const { U, s, V } = svd(of(known, K)), least = s[rank - 1];
          if (least <= 1e3 * normOf(of(error, K)) + 1e-9 * s[0]) continue;
          const sum = (list, f) => list.reduce((t, item, at) => t + f(item, at), 0);
          const inverted = (a, b) => sum(s, (x, k) => (V[k][a] * U[k][b]) / x);
          const inverse = K.map((_, a) => S.map((_, b) => inverted(a, b)));
          const x = S.map((_, b) => sum(K, (j, a) => known[i][j] * inverse[a][b]));
          const doubts = K.map((j) => error[i][j] + sum(S, (k, b) => Math.abs(x[b]) * error[k][j]));
          const doubt = S.map((_, b) => sum(K, (_, a) => doubts[a] * Math.abs(inverse[a][b])));
          for (const j of fresh) {
            known[i][j] = sum(S, (k, b) => x[b] * known[k][j]);
            const doubted = x.map((part, b) => doubt[b] + NOISE * Math.abs(part));
            const ofX = sum(S, (k, b) => doubted[b] * Math.abs(known[k][j]));
            error[i][j] = 2 * (ofX + sum(S, (k, b) => Math.abs(x[b]) * error[k][j]));
            seen[i][j] = true;
          }
          changed = true;
        }
      }
    }
    return { known, error: error.map((row, i) => row.map((e, j) => (mask[i][j] ? 0 : e))), seen };
  }

  // Two minors of size rank + 1 with the same two unobserved entries x and y, (b x + d) +
  // (a x + c) y = 0: a quadratic equation for x, which may have no real root.
  function rootlessPair(part, rank) {
    const k = rank + 1, { values, mask, name } = part, m = values.length, n = values[0].length;
    const equations = new Map();
    for (const S of choices(m, k)) {
      for (const T of choices(n, k)) {
        const places = S.flatMap((i, a) => T.flatMap((j, b) => (mask[i][j] ? [] : [[a, b]])));
        if (places.length !== 2) continue;
        const [[p, q], [r, t]] = places;
        const minor = (x, y) => {
          const block = S.map((i) => T.map((j) => values[i][j]));
          block[p][q] = x;
          block[r][t] = y;
          return determinant(block);
        };
        const d = minor(0, 0), bd = minor(1, 0), cd = minor(0, 1), abcd = minor(1, 1);
        const pair = [[S[p], T[q]], [S[r], T[t]]], key = pair.join();
        if (!equations.has(key)) equations.set(key, { pair, minors: [] });
        equations.get(key).minors.push([abcd - bd - cd + d, bd - d, cd - d, d]);
      }
    }
    let factorial = 1;
    for (let q = 2; q <= k; q++) factorial *= q;
    // All terms of the discriminant have degree 4 · rank in the data, so this is their rounding.
    const rounding = 1e-12 * factorial ** 4 * part.size ** (4 * rank);
    for (const { pair, minors } of equations.values()) {
      for (let x = 0; x < minors.length; x++) {
        for (let y = x + 1; y < minors.length; y++) {
          const [a, b, c, d] = minors[x], [e, f, g, h] = minors[y];
          const linear = b * g + d * e - f * c - h * a;
          if (linear * linear - 4 * (b * e - f * a) * (d * g - h * c) < -rounding) {
            return (
              `at rank ${rank} two minors make the unobserved entries ${name(pair)} solve a ` +
              "quadratic equation that has no real root"
            );
          }
        }
      }
    }
    return "";
  }

  function determinant(M) {
    const A = M.map((row) => row.slice()), n = A.length;
    let product = 1;
    for (let k = 0; k < n; k++) {
      let pivot = k;
      for (let i = k + 1; i < n; i++) if (Math.abs(A[i][k]) > Math.abs(A[pivot][k])) pivot = i;
      if (A[pivot][k] === 0) return 0;
      if (pivot !== k) {
        [A[pivot], A[k]] = [A[k], A[pivot]];
        product = -product;
      }
      product *= A[k][k];
      for (let i = k + 1; i < n; i++) {
        const factor = A[i][k] / A[k][k];
        for (let j = k; j < n; j++) A[i][j] -= factor * A[k][j];
      }
    }
    return product;
  }

  return { rankOne, independentLines, eliminate, rootlessPair };
})();
