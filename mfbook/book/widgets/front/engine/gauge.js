"use strict";

// Columns that carry their own size. A column is {x, l, v, on}: a unit vector x of [A; Bᵀ], its
// log-norm l, its row v of the rotation that leads back to the caller's hidden basis, and whether
// W feels it. The hidden space may be rotated freely, so columns are kept nearly orthogonal, and
// every operation changes a column by little relative to itself, however small it is.
mflive.gauge = (() => {
  const { EPS, dot, norm } = mflive.linalg;

  // Above this spread of exponents a linear flow is applied through a triangular form.
  const DIRECT_SPREAD = 6;
  // Columns are made orthogonal again when two of them have a cosine above this.
  const LOOSE = 0.2;
  // Rotations leave cosines below this alone.
  const RIGHT_ANGLE = 1e-12;
  const MOST_SWEEPS = 60;

  const copied = (c) => ({ x: c.x.slice(), l: c.l, v: c.v.slice(), on: c.on });

  // x · e^l as a unit vector and a log-norm; x is changed in place.
  function normalised(x, l) {
    const size = norm(x);
    if (!(size > 0)) return { x: x.fill(0), l: -Infinity };
    for (let r = 0; r < x.length; r++) x[r] /= size;
    return { x, l: l + Math.log(size) };
  }

  function largestCosine(columns) {
    let largest = 0;
    columns.forEach((a, i) => {
      for (let j = 0; j < i; j++) largest = Math.max(largest, Math.abs(dot(a.x, columns[j].x)));
    });
    return largest;
  }

  const logSum = (a, b) => Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));

  // Columns rotated until they are mutually orthogonal, by falling norm: one-sided Jacobi rotations
  // with tan θ = ρ τ for norms in the ratio ρ ≤ 1, where τ stays finite as ρ → 0. With `noise`, the
  // logarithms of the sizes below which a column is rounding, such a column becomes zero.
  function orthogonalise(columns, noise = null) {
    const C = columns.map(copied), count = C.length;
    const lost = noise && new Map(C.map((c, k) => [c, noise[k]]));
    for (let sweep = 0; sweep < MOST_SWEEPS; sweep++) {
      let worst = 0;
      for (let a = 0; a < count - 1; a++) {
        for (let b = a + 1; b < count; b++) {
          const big = C[b].l > C[a].l ? C[b] : C[a], small = big === C[a] ? C[b] : C[a];
          const g = dot(big.x, small.x);
          if (!(Math.abs(g) > RIGHT_ANGLE)) continue;
          worst = Math.max(worst, Math.abs(g));
          turn(big, small, g, lost);
        }
      }
      // The next sweep would find cosines of the size worst².
      if (worst <= Math.sqrt(RIGHT_ANGLE)) break;
    }
    return C.sort((a, b) => b.l - a.l || 0);
  }

  function turn(big, small, g, lost) {
    const rho = Math.exp(small.l - big.l), gap = -Math.expm1(2 * (small.l - big.l));
    const tau = (-2 * g) / (gap + Math.sqrt(gap * gap + (2 * rho * g) ** 2));
    const tan = rho * tau, cos = 1 / Math.sqrt(1 + tan * tan);
    const x = big.x, y = small.x;
    for (let r = 0; r < x.length; r++) {
      const a = x[r], b = y[r];
      x[r] = (a - rho * tan * b) * cos;
      y[r] = (b + tau * a) * cos;
    }
    const sizeX = norm(x);
    let sizeY = norm(y);
    if (lost) {
      // Roundings rotate like the columns; they are independent, so squares add.
      const c = 2 * Math.log(cos), s = 2 * Math.log(Math.abs(tan) * cos);
      const ofBig = 2 * lost.get(big), ofSmall = 2 * lost.get(small);
      lost.set(big, logSum(c + ofBig, s + ofSmall) / 2);
      lost.set(small, logSum(c + ofSmall, s + ofBig) / 2);
      const rounding = Math.log(8 * EPS * Math.sqrt(x.length));
      if (small.l + Math.log(sizeY) < lost.get(small) + rounding) sizeY = 0;
    }
    for (let r = 0; r < x.length; r++) {
      x[r] /= sizeX;
      y[r] = sizeY > 0 ? y[r] / sizeY : 0;
    }
    big.l += Math.log(sizeX);
    small.l = sizeY > 0 ? small.l + Math.log(sizeY) : -Infinity;
    for (let r = 0; r < big.v.length; r++) {
      const a = big.v[r], b = small.v[r];
      big.v[r] = cos * (a - tan * b);
      small.v[r] = cos * (b + tan * a);
    }
  }

  // The columns of e^logScale · U for U = [A; Bᵀ] given by its columns, without those of zeros.
  function graded(U, logScale) {
    const width = U.length, p = U[0].length;
    let size = 0;
    for (const column of U) for (const entry of column) size = Math.max(size, Math.abs(entry));
    if (size === 0) return [];
    const scaled = U.map((column) => column.map((entry) => entry / size));
    const wide = width > p;
    const C = wide
      ? narrowed(scaled, p)
      : scaled.map((x, k) => {
          const v = new Float64Array(width);
          v[k] = 1;
          return { ...normalised(x, 0), v, on: false };
        });
    // The rounding of a QR decomposition is that of its largest column.
    const largest = Math.max(...C.map((c) => c.l));
    return orthogonalise(C, C.map((c) => (wide ? largest : c.l)))
      .filter((c) => c.l > -Infinity)
      .map((c) => ({ ...c, l: c.l + logScale + Math.log(size) }));
  }

  // U = R Vᵀ with p columns instead of more, V orthonormal, by reflections of the hidden space.
  function narrowed(U, p) {
    const width = U.length;
    const rows = Array.from({ length: p }, (_, i) => Float64Array.from(U, (column) => column[i]));
    const mirrors = [];
    const reflect = (row, { w, beta, from }) => {
      let part = 0;
      for (let k = from; k < width; k++) part += row[k] * w[k];
      part *= beta;
      for (let k = from; k < width; k++) row[k] -= part * w[k];
    };
    for (let i = 0; i < p; i++) {
      const w = rows[i].slice();
      w.fill(0, 0, i);
      const length = norm(w);
      if (length === 0) continue;
      w[i] += w[i] < 0 ? -length : length;
      const mirror = { w, beta: 2 / dot(w, w), from: i };
      mirrors.push(mirror);
      for (let r = i; r < p; r++) reflect(rows[r], mirror);
      rows[i].fill(0, i + 1);
    }
    return Array.from({ length: p }, (_, k) => {
      const v = new Float64Array(width);
      v[k] = 1;
      for (const mirror of mirrors.slice().reverse()) reflect(v, mirror);
      return { ...normalised(Float64Array.from(rows, (row) => row[k]), 0), v, on: false };
    });
  }

  // exp(Σ_k growth_k b_k b_kᵀ) on the columns, for growth of any size, rising; row k of `basis` is
  // b_k. Beyond DIRECT_SPREAD the hidden space is first rotated until only one column has a part
  // along the direction that grows fastest, only one more along the second, and so on.
  function linearFlow(columns, growth, basis) {
    if (!columns.length) return columns;
    const n = growth.length, top = growth[n - 1];
    if (top - growth[0] <= DIRECT_SPREAD) {
      return columns.map((c) => {
        const y = coordinates(basis, c.x);
        for (let k = 0; k < n; k++) y[k] *= Math.exp(growth[k] - top);
        const { x, l } = normalised(combined(basis, y), c.l + top);
        return { x, l, v: c.v, on: c.on };
      });
    }
    const C = columns.map(({ x, l, v, on }) => ({ y: coordinates(basis, x), l, v: v.slice(), on }));
    makeTriangular(C);
    return orthogonalise(
      C.map(({ y, l, v, on }) => {
        const log = y.map((entry, k) => Math.log(Math.abs(entry)) + growth[k]);
        const peak = log.reduce((a, b) => Math.max(a, b), -Infinity);
        if (peak === -Infinity) return { ...normalised(y, l), v, on };
        const grown = y.map((entry, k) => Math.sign(entry) * Math.exp(log[k] - peak));
        return { ...normalised(combined(basis, grown), l + peak), v, on };
      }),
    );
  }

  function coordinates(basis, x) {
    const n = x.length, y = new Float64Array(n);
    for (let k = 0, at = 0; k < n; k++) {
      let sum = 0;
      for (let i = 0; i < n; i++) sum += basis[at++] * x[i];
      y[k] = sum;
    }
    return y;
  }

  function combined(basis, y) {
    const n = y.length, x = new Float64Array(n);
    for (let k = 0; k < n; k++) {
      const part = y[k], at = k * n;
      if (part !== 0) for (let i = 0; i < n; i++) x[i] += part * basis[at + i];
    }
    return x;
  }

  // One reflection of the hidden space a row, from the largest growth on, gathers the row in the
  // column that contributes most; the zeros that it leaves are exact, which keeps a small column
  // clean while its neighbour grows by 10^1000.
  function makeTriangular(C) {
    const n = C[0].y.length, width = C[0].v.length;
    let free = [...C];
    for (let row = n - 1; row >= n - C.length && free.length > 1; row--) {
      const part = new Map(free.map((c) => [c, Math.log(Math.abs(c.y[row])) + c.l]));
      const pivot = free.reduce((a, b) => (part.get(b) > part.get(a) ? b : a));
      if (part.get(pivot) === -Infinity) continue;
      free = free.filter((c) => c !== pivot);
      const live = free.filter((c) => c.y[row] !== 0);
      if (live.length) {
        const head = pivot.y[row];
        // w: contributions to the row relative to the pivot's, at most one.
        const others = live.map((c) => {
          const sign = Math.sign(c.y[row]) * Math.sign(head), log = part.get(c) - part.get(pivot);
          return {
            c,
            w: sign * Math.exp(log),
            // w scaled to unit columns, formed from logarithms: w itself may underflow.
            up: sign * Math.exp(Math.min(log + c.l - pivot.l, 700)),
            down: c.y[row] / head,
          };
        });
        const squares = others.reduce((sum, { w }) => sum + w * w, 0);
        const q = 1 + Math.sqrt(1 + squares), beta = 2 / (q * q + squares);
        for (let r = 0; r < n; r++) {
          let mixed = q * pivot.y[r];
          for (const { c, up } of others) mixed += c.y[r] * up;
          for (const { c, down } of others) c.y[r] -= beta * mixed * down;
          pivot.y[r] -= beta * q * mixed;
        }
        for (let r = 0; r < width; r++) {
          let mixed = q * pivot.v[r];
          for (const { c, w } of others) mixed += c.v[r] * w;
          for (const { c, w } of others) c.v[r] -= beta * mixed * w;
          pivot.v[r] -= beta * q * mixed;
        }
      }
      for (const c of free) c.y[row] = 0;
    }
  }

  // The first time at which exp(t · Σ rates_k b_k b_kᵀ) takes a column to the log-norm `target`;
  // Infinity if none ever gets there. The largest log-norm is convex in t, so Newton's method
  // started beyond the crossing comes down to it.
  function timeToReach(columns, rates, basis, target) {
    const n = rates.length;
    if (!columns.length || rates[n - 1] <= 0) return Infinity;
    const logs = columns.map(({ x, l }) =>
      coordinates(basis, x).map((y) => Math.log(Math.abs(y)) + l),
    );
    let t = Infinity;
    for (let k = 0; k < n; k++) {
      const visible = logs.reduce((top, log) => Math.max(top, log[k]), -Infinity);
      if (rates[k] > 0 && visible > -Infinity) t = Math.min(t, (target - visible) / rates[k]);
    }
    if (!Number.isFinite(t)) return Infinity;
    t = Math.max(t, 0);
    for (let i = 0; i < 50; i++) {
      let largest = -Infinity, slope = 0;
      for (const log of logs) {
        let peak = -Infinity, total = 0, rate = 0;
        for (let k = 0; k < n; k++) peak = Math.max(peak, log[k] + rates[k] * t);
        if (peak === -Infinity) continue;
        for (let k = 0; k < n; k++) {
          const share = Math.exp(2 * (log[k] + rates[k] * t - peak));
          total += share;
          rate += share * rates[k];
        }
        const size = peak + 0.5 * Math.log(total);
        if (size > largest) {
          largest = size;
          slope = rate / total;
        }
      }
      if (largest - target <= 1e-9 || slope <= 0) break;
      t -= (largest - target) / slope;
    }
    return t;
  }

  return {
    DIRECT_SPREAD, LOOSE, normalised, largestCosine, orthogonalise, graded, linearFlow, timeToReach,
  };
})();
