"use strict";

// The smallest rank among the matrices that fit: arguments from below that exclude a rank for every
// completion at once, a witness from above. Where they do not meet, the answer says so. The
// arguments are those of mf.min_rank, in the same order.
mflive.minRank = (() => {
  const { EPS, svd, singularValues, solvePositive, largestEntry, transposed } = mflive.linalg;

  // An equation between entries counts as violated beyond this; factors fit to FITS of the largest.
  const NOISE = 64 * EPS, FITS = 1e-12;
  // A witness whose entries are so many times the data may be a step on the way to infinity.
  const BLOWN_UP = 1e4;
  // Starts and steps of Levenberg–Marquardt for one rank, and the time after which none begins.
  const EFFORTS = [[4, 50], [16, 150], [48, 300]], PATIENCE = 2000;
  const FALL = 4, RISE = 3, LEAST_DAMPING = 1e-12, MOST_DAMPING = 1e8, FLOOR = 1e-14;

  const bits = (n) => Array.from({ length: n }, (_, k) => k);
  const members = (set, n) => bits(n).filter((k) => (set >> k) & 1);
  const size = (set) => {
    let count = 0;
    for (; set; set &= set - 1) count++;
    return count;
  };

  function* choices(n, k, from = 0) {
    if (k === 0) yield [];
    else for (let i = from; i <= n - k; i++) for (const rest of choices(n, k - 1, i + 1)) yield [i, ...rest];
  }

  const normOf = (rows) => Math.sqrt(rows.reduce((sum, row) => row.reduce((s, x) => s + x * x, sum), 0));

  // The components among the rows and columns that hold a nonzero observed entry; the others fit
  // as zeros. Powers of two bring the entries of each close to one, which changes no rank.
  function componentsOf(values) {
    const nonzero = values.map((row) => row.map((v) => v !== null && v !== 0));
    const alive = (j) => nonzero.some((row) => row[j]);
    const mask = values.map((row, i) => row.map((v, j) => v !== null && nonzero[i].some(Boolean) && alive(j)));
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

  // Rank 1, exactly: potentials along a spanning tree, and the cycle that contradicts them.
  function rankOne({ values, mask, name }) {
    const m = values.length, n = values[0].length;
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        if (mask[i][j] && values[i][j] === 0) {
          return {
            why:
              `the observed zero at ${name([[i, j]])} meets a nonzero entry of its row and one of ` +
              "its column, which excludes rank 1",
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
    const told = Math.abs(off) < 1e-3 ? `differs from 1 by ${short(off, 3)}` : `is ${short(product, 6)}, not 1`;
    return { why: `the alternating product around the cycle ${name(cycle)} ${told}` };
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
    const path = [...left.slice(0, left.indexOf(meet) + 1), ...right.slice(0, right.indexOf(meet)).reverse()];
    const closed = [m + j, ...path];
    return path.map((vertex, k) => {
      const [x, y] = [closed[k], vertex];
      return x < m ? [x, y - m] : [y, x - m];
    });
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
        const doubt = surely ? 4 * normOf(block(error)) : 0;
        ranks.set(key, singularValues(block(known)).filter((s) => s > noise + doubt).length);
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
        const common = bits(n).filter((j) => S.every((i) => seen[i][j]));
        if (common.length <= rank) continue;
        for (let i = 0; i < m; i++) {
          if (S.includes(i)) continue;
          const K = common.filter((j) => seen[i][j]), fresh = common.filter((j) => !seen[i][j]);
          if (K.length < rank || !fresh.length) continue;
          const of = (M, cols) => S.map((k) => cols.map((j) => M[k][j]));
          const { U, s, V } = svd(of(known, K)), least = s[rank - 1];
          if (least <= 1e3 * normOf(of(error, K)) + 1e-9 * s[0]) continue;
          const inverse = K.map((_, a) => S.map((_, b) => s.reduce((t, x, k) => t + (V[k][a] * U[k][b]) / x, 0)));
          const x = S.map((_, b) => K.reduce((t, j, a) => t + known[i][j] * inverse[a][b], 0));
          const doubts = K.map((j) => error[i][j] + S.reduce((t, k, b) => t + Math.abs(x[b]) * error[k][j], 0));
          const doubt = S.map((_, b) => K.reduce((t, _, a) => t + doubts[a] * Math.abs(inverse[a][b]), 0));
          for (const j of fresh) {
            const total = (f) => S.reduce((t, k, b) => t + f(k, b), 0);
            known[i][j] = total((k, b) => x[b] * known[k][j]);
            error[i][j] =
              2 * total((k, b) => (doubt[b] + NOISE * Math.abs(x[b])) * Math.abs(known[k][j]) + Math.abs(x[b]) * error[k][j]);
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

  // Factors of width `rank` that fit, or null: from the one matrix there can be, if elimination
  // determined it, else from many starts.
  function witness(part, rank, determined, isLate) {
    const m = part.values.length, n = part.values[0].length, entries = new Entries(part);
    if (determined) {
      const { U, s, V } = svd(determined);
      const A = bits(m).map((i) => bits(rank).map((k) => Math.sqrt(s[k]) * U[k][i]));
      const B = bits(rank).map((k) => bits(n).map((j) => Math.sqrt(s[k]) * V[k][j]));
      return entries.search(A, B, 20, 2 * Math.max(part.size, largestEntry(determined)));
    }
    const rng = mflive.rng(rank);
    for (const [starts, steps] of EFFORTS) {
      for (let start = 0; start < starts; start++) {
        if (isLate()) return null;
        const found = entries.search(rng.normals(m, rank), rng.normals(rank, n), steps, BLOWN_UP * part.size);
        if (found) return found;
      }
    }
    return null;
  }

  // Levenberg–Marquardt for the observed entries of A B, by the system of one equation an entry.
  class Entries {
    constructor({ values, mask, size: scale }) {
      this.at = mask.flatMap((row, i) => row.flatMap((seen, j) => (seen ? [[i, j]] : [])));
      this.target = this.at.map(([i, j]) => values[i][j]);
      this.scale = scale;
    }

    residual(A, B) {
      return Float64Array.from(this.at, ([i, j], e) => A[i].reduce((sum, a, k) => sum + a * B[k][j], -this.target[e]));
    }

    search(A, B, steps, largest) {
      const { at } = this, count = at.length, width = B.length;
      let residual = this.residual(A, B), loss = mflive.linalg.dot(residual, residual), damping = 1;
      for (let step = 0; step <= steps; step++) {
        const missing = residual.reduce((top, r) => Math.max(top, Math.abs(r)), 0);
        if (missing <= FITS * this.scale) {
          const product = A.map((row) => B[0].map((_, j) => row.reduce((sum, a, k) => sum + a * B[k][j], 0)));
          return largestEntry(product) <= largest ? [A, B] : null;
        }
        const H = new Float64Array(count * count);
        let trace = 0;
        for (let e = 0; e < count; e++) {
          const [i, j] = at[e];
          for (let f = 0; f <= e; f++) {
            const [k, l] = at[f];
            let sum = 0;
            if (i === k) for (let w = 0; w < width; w++) sum += B[w][j] * B[w][l];
            if (j === l) for (let w = 0; w < width; w++) sum += A[i][w] * A[k][w];
            H[e * count + f] = H[f * count + e] = sum;
          }
          trace += H[e * count + e];
        }
        for (let e = 0; e < count; e++) H[e * count + e] += damping + FLOOR * trace;
        const y = solvePositive(H, residual);
        if (y) {
          const newA = A.map((row) => row.slice()), newB = B.map((row) => row.slice());
          at.forEach(([i, j], e) => {
            for (let w = 0; w < width; w++) {
              newA[i][w] -= y[e] * B[w][j];
              newB[w][j] -= y[e] * A[i][w];
            }
          });
          const tried = this.residual(newA, newB), after = mflive.linalg.dot(tried, tried);
          if (after < loss) {
            [A, B, residual, loss] = [newA, newB, tried, after];
            damping = Math.max(damping / FALL, LEAST_DAMPING);
            continue;
          }
        }
        damping *= RISE;
        if (damping > MOST_DAMPING) return null;
      }
      return null;
    }
  }

  // For one component, from rank 1 up: each rank is excluded, or reached, or neither and left.
  function settled(part, isLate) {
    const m = part.values.length, n = part.values[0].length;
    const one = rankOne(part);
    if (one.factors) return { factors: one.factors, bound: 1, why: "an observed entry is not zero, which excludes rank 0" };
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
      const factors = witness(part, rank, seen.flat().every(Boolean) ? known : null, isLate);
      if (factors) return { factors, bound, why };
      const excluded = rootlessPair(part, rank);
      if (excluded) {
        bound = rank + 1;
        why = excluded;
      }
    }
    const identity = (k) => bits(k).map((i) => bits(k).map((j) => Number(i === j)));
    return { factors: n <= m ? [part.values, identity(n)] : [identity(m), part.values], bound, why };
  }

  return (values) => {
    const m = values.length, n = values[0].length;
    const W = values.map((row) => row.map(() => 0));
    const parts = componentsOf(values);
    if (!parts.length) {
      return { rank: 0, lower_bound: 0, proven: true, why: "every observed entry is zero, and no rank is smaller", W };
    }
    const begun = performance.now(), isLate = () => performance.now() - begun > PATIENCE;
    const answers = parts.map((part) => settled(part, isLate));
    const rank = Math.max(...answers.map(({ factors }) => factors[1].length));
    const strongest = answers.reduce((a, b) => (b.bound > a.bound ? b : a));
    const A = bits(m).map(() => Array(rank).fill(0)), B = bits(rank).map(() => Array(n).fill(0));
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
      W: W.map((row, i) => row.map((_, j) => A[i].reduce((sum, x, k) => sum + x * B[k][j], 0))),
    };
  };
})();
