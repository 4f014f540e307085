"use strict";

// Eigenvectors of symmetric matrices, for Float64Arrays that hold them row after row.
mflive.linalg.eigh = (() => {
  const { EPS, dot } = mflive.linalg;

  function power(S) {
    let largest = 0;
    for (let at = 0; at < S.length; at++) largest = Math.max(largest, Math.abs(S[at]));
    return largest > 0 && Number.isFinite(largest) ? 2 ** Math.floor(Math.log2(largest)) : 1;
  }

  // The eigenvalues of a symmetric matrix of order n, rising, and its eigenvectors: row k of
  // `vectors` belongs to value k. Where rounding is larger than all that couples two sets of
  // coordinates, each is diagonalised by itself, and rotations as small as the couplings do the
  // rest: what they are among 10^-16 decides where a flow goes after a growth by 10^20.
  function eigh(S, n) {
    let size = 0;
    for (let at = 0; at < n * n; at++) size = Math.max(size, Math.abs(S[at]));
    const weak = EPS * size, blocks = coupledBy(S, n, weak);
    if (blocks.length === 1) {
      const { values, vectors } = eighOfOne(S, n);
      return sorted(values, vectors);
    }
    const values = new Float64Array(n), vectors = new Float64Array(n * n);
    let first = 0;
    for (const block of blocks) {
      const order = block.length, part = new Float64Array(order * order);
      block.forEach((i, a) => block.forEach((j, b) => (part[a * order + b] = S[i * n + j])));
      const found = eighOfOne(part, order);
      values.set(found.values, first);
      for (let k = 0; k < order; k++) {
        block.forEach((i, a) => (vectors[(first + k) * n + i] = found.vectors[k * order + a]));
      }
      first += order;
    }
    const label = new Int32Array(n);
    blocks.forEach((block, q) => block.forEach((i) => (label[i] = q)));
    const between = S.map((s, at) => (label[Math.floor(at / n)] === label[at % n] ? 0 : s));
    if (between.some((s) => s !== 0)) couple(between, values, vectors);
    return sorted(values, vectors);
  }

  // By rising value, in place where they are so already.
  function sorted(values, vectors) {
    const n = values.length, order = new Int32Array(n);
    let rising = true;
    for (let k = 0; k < n; k++) {
      let at = k;
      for (; at > 0 && values[order[at - 1]] > values[k]; at--) order[at] = order[at - 1];
      order[at] = k;
      rising &&= at === k;
    }
    if (rising) return { values, vectors };
    const rows = new Float64Array(n * n), ordered = new Float64Array(n);
    for (let k = 0; k < n; k++) {
      const from = order[k] * n;
      ordered[k] = values[order[k]];
      for (let i = 0; i < n; i++) rows[k * n + i] = vectors[from + i];
    }
    return { values: ordered, vectors: rows };
  }

  // The sets of coordinates that entries above `weak` link.
  function coupledBy(S, n, weak) {
    const blocks = [], taken = new Uint8Array(n);
    for (let first = 0; first < n; first++) {
      if (taken[first]) continue;
      taken[first] = 1;
      const block = [first];
      for (let q = 0; q < block.length; q++) {
        for (let j = 0, row = block[q] * n; j < n; j++) {
          if (taken[j] || Math.abs(S[row + j]) <= weak) continue;
          taken[j] = 1;
          block.push(j);
        }
      }
      blocks.push(block.sort((a, b) => a - b));
    }
    return blocks;
  }

  // Two sweeps of Jacobi rotations for diag(values) + C with a small C, given in old coordinates.
  function couple(C, values, vectors) {
    const n = values.length, M = new Float64Array(n * n), half = new Float64Array(n * n);
    const row = (A, k) => A.subarray(k * n, k * n + n);
    for (let k = 0; k < n; k++) {
      for (let i = 0; i < n; i++) half[k * n + i] = dot(row(vectors, k), row(C, i));
    }
    for (let k = 0; k < n; k++) {
      for (let l = 0; l < n; l++) M[k * n + l] = dot(row(half, k), row(vectors, l));
    }
    for (let sweep = 0; sweep < 2; sweep++) {
      for (let i = 0; i < n - 1; i++) {
        for (let j = i + 1; j < n; j++) {
          const c = M[i * n + j];
          if (c === 0) continue;
          const ratio = (values[j] - values[i]) / (2 * c);
          const tan = (ratio < 0 ? -1 : 1) / (Math.abs(ratio) + Math.sqrt(1 + ratio * ratio));
          const cosine = 1 / Math.sqrt(1 + tan * tan), sine = cosine * tan;
          values[i] -= tan * c;
          values[j] += tan * c;
          M[i * n + j] = M[j * n + i] = 0;
          for (let k = 0; k < n; k++) {
            const x = vectors[i * n + k], y = vectors[j * n + k];
            vectors[i * n + k] = cosine * x - sine * y;
            vectors[j * n + k] = sine * x + cosine * y;
            if (k === i || k === j) continue;
            const a = M[i * n + k], b = M[j * n + k];
            M[i * n + k] = M[k * n + i] = cosine * a - sine * b;
            M[j * n + k] = M[k * n + j] = sine * a + cosine * b;
          }
        }
      }
    }
  }

  // Householder's reduction to tridiagonal form, then implicit QL.
  function eighOfOne(S, n) {
    const unit = power(S), A = new Float64Array(n * n);
    for (let at = 0; at < A.length; at++) A[at] = S[at] / unit;
    const d = new Float64Array(n), e = new Float64Array(n);
    const Q = tridiagonal(A, n, d, e);
    diagonalise(Q, n, d, e);
    for (let k = 0; k < n; k++) d[k] *= unit;
    return { values: d, vectors: Q };
  }

  // Reflections I − β v vᵀ from the first row on, in place of the upper triangle of A; diagonal d
  // and e, e[k] between k and k + 1. Returns Qᵀ with A = Q T Qᵀ.
  function tridiagonal(A, n, d, e) {
    const betas = new Float64Array(n), v = new Float64Array(n), w = new Float64Array(n);
    for (let k = 0; k < n - 1; k++) {
      const row = k * n;
      d[k] = A[row + k];
      let tail = 0;
      for (let j = k + 2; j < n; j++) tail += A[row + j] * A[row + j];
      const head = A[row + k + 1];
      if (tail === 0) {
        e[k] = head;
        continue;
      }
      const length = Math.sqrt(head * head + tail), sign = head < 0 ? -1 : 1;
      e[k] = -sign * length;
      const pivot = head + sign * length, beta = 2 / (pivot * pivot + tail);
      betas[k] = beta;
      A[row + k + 1] = pivot;
      for (let j = k + 1; j < n; j++) {
        v[j] = A[row + j];
        w[j] = 0;
      }
      for (let i = k + 1; i < n; i++) {
        const at = i * n, vi = v[i];
        let sum = A[at + i] * vi;
        for (let j = i + 1; j < n; j++) {
          const a = A[at + j];
          sum += a * v[j];
          w[j] += a * vi;
        }
        w[i] += sum;
      }
      let mixed = 0;
      for (let j = k + 1; j < n; j++) mixed += w[j] * v[j];
      mixed *= beta / 2;
      for (let j = k + 1; j < n; j++) w[j] = beta * (w[j] - mixed * v[j]);
      for (let i = k + 1; i < n; i++) {
        const at = i * n, vi = v[i], wi = w[i];
        for (let j = i; j < n; j++) A[at + j] -= vi * w[j] + wi * v[j];
      }
    }
    d[n - 1] = A[n * n - 1];
    const Q = new Float64Array(n * n);
    for (let i = 0; i < n; i++) Q[i * n + i] = 1;
    for (let k = n - 3; k >= 0; k--) {
      const beta = betas[k], row = k * n;
      if (beta === 0) continue;
      for (let i = k + 1; i < n; i++) {
        const at = i * n;
        let mixed = 0;
        for (let j = k + 1; j < n; j++) mixed += Q[at + j] * A[row + j];
        mixed *= beta;
        if (mixed !== 0) for (let j = k + 1; j < n; j++) Q[at + j] -= mixed * A[row + j];
      }
    }
    return Q;
  }

  // QL with implicit shifts; the rotations of a sweep act on the rows of Q, two at a time.
  function diagonalise(Q, n, d, e) {
    const cosines = new Float64Array(n), sines = new Float64Array(n);
    // Couplings below this are none, whatever they couple: their squares could underflow.
    let size = 0;
    for (let i = 0; i < n; i++) size = Math.max(size, Math.abs(d[i]), Math.abs(e[i]));
    const none = EPS * EPS * size;
    for (let low = 0; low < n; low++) {
      for (let sweep = 0; ; sweep++) {
        let high = low;
        for (; high < n - 1; high++) {
          const coupling = Math.abs(e[high]);
          if (coupling <= none || coupling <= EPS * (Math.abs(d[high]) + Math.abs(d[high + 1]))) {
            break;
          }
        }
        if (high === low) break;
        if (sweep > 60) throw new Error("an eigenvalue was not found: entries must be finite");
        const half = (d[low + 1] - d[low]) / (2 * e[low]);
        const root = Math.sqrt(half * half + 1);
        let bulge = d[high] - d[low] + e[low] / (half < 0 ? half - root : half + root);
        let sine = 1, cosine = 1, shift = 0, i = high - 1;
        for (; i >= low; i--) {
          const f = sine * e[i], b = cosine * e[i], r = Math.sqrt(f * f + bulge * bulge);
          e[i + 1] = r;
          if (r === 0) {
            d[i + 1] -= shift;
            break;
          }
          sine = f / r;
          cosine = bulge / r;
          const g = d[i + 1] - shift, q = (d[i] - g) * sine + 2 * cosine * b;
          shift = sine * q;
          d[i + 1] = g + shift;
          bulge = cosine * q - b;
          cosines[i] = cosine;
          sines[i] = sine;
        }
        rotate(Q, n, i + 1, high, cosines, sines);
        e[high] = 0;
        if (i < low) {
          d[low] -= shift;
          e[low] = bulge;
        }
      }
    }
  }

  function rotate(Q, n, low, high, cosines, sines) {
    let i = high - 1;
    for (; i > low; i -= 2) {
      const c = cosines[i], s = sines[i], c2 = cosines[i - 1], s2 = sines[i - 1];
      const x = (i - 1) * n, y = i * n, z = (i + 1) * n;
      for (let k = 0; k < n; k++) {
        const a = Q[x + k], b = Q[y + k], f = Q[z + k], m = c * b - s * f;
        Q[z + k] = s * b + c * f;
        Q[y + k] = s2 * a + c2 * m;
        Q[x + k] = c2 * a - s2 * m;
      }
    }
    if (i === low) {
      const c = cosines[i], s = sines[i], y = i * n, z = y + n;
      for (let k = 0; k < n; k++) {
        const b = Q[y + k], f = Q[z + k];
        Q[z + k] = s * b + c * f;
        Q[y + k] = c * b - s * f;
      }
    }
  }

  return eigh;
})();

mflive.eigh = (rows) => {
  const n = rows.length;
  const { values, vectors } = mflive.linalg.eigh(Float64Array.from(rows.flat()), n);
  return {
    values: Array.from(values),
    vectors: Array.from(values, (_, k) => Array.from(vectors.subarray(k * n, k * n + n))),
  };
};
