"use strict";
globalThis.mflive ??= {};

// Small dense linear algebra: matrices are Float64Arrays, row after row, or lists of columns.
mflive.linalg = (() => {
  const EPS = 2 ** -52;

  function dot(a, b) {
    let sum = 0;
    for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
    return sum;
  }

  const norm = (a) => Math.sqrt(dot(a, a));

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
    for (let k = 0; k < n; k++) {
      for (let i = 0; i < n; i++) half[k * n + i] = dot(vectors.subarray(k * n, k * n + n), C.subarray(i * n, i * n + n));
    }
    for (let k = 0; k < n; k++) {
      for (let l = 0; l < n; l++) M[k * n + l] = dot(half.subarray(k * n, k * n + n), vectors.subarray(l * n, l * n + n));
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

  // Orthogonal columns by one-sided Jacobi rotations, in place; the same rotations act on `also`.
  function rotateApart(columns, also) {
    const count = columns.length;
    for (let sweep = 0; sweep < 60; sweep++) {
      let turned = false;
      for (let i = 0; i < count - 1; i++) {
        for (let j = i + 1; j < count; j++) {
          const x = columns[i], y = columns[j];
          const a = dot(x, x), b = dot(y, y), g = dot(x, y);
          if (!(Math.abs(g) > EPS * Math.sqrt(a) * Math.sqrt(b))) continue;
          turned = true;
          const half = (b - a) / (2 * g);
          const tan = (half < 0 ? -1 : 1) / (Math.abs(half) + Math.sqrt(1 + half * half));
          const cosine = 1 / Math.sqrt(1 + tan * tan), sine = cosine * tan;
          for (const [p, q] of also ? [[x, y], [also[i], also[j]]] : [[x, y]]) {
            for (let k = 0; k < p.length; k++) {
              const u = p[k], v = q[k];
              p[k] = cosine * u - sine * v;
              q[k] = sine * u + cosine * v;
            }
          }
        }
      }
      if (!turned) break;
    }
  }

  const transposed = (M) => M[0].map((_, j) => M.map((row) => row[j]));
  const largestEntry = (M) => M.reduce((top, row) => row.reduce((t, x) => Math.max(t, Math.abs(x)), top), 0);

  function columnsOf(M, unit) {
    return Array.from(M[0], (_, j) => Float64Array.from(M, (row) => row[j] / unit));
  }

  // Singular values of a list of rows, falling.
  function singularValues(M) {
    if (M.length < M[0].length) return singularValues(transposed(M));
    const unit = largestEntry(M) || 1, columns = columnsOf(M, unit);
    rotateApart(columns, null);
    return columns.map((c) => unit * norm(c)).sort((a, b) => b - a);
  }

  // M = Σ_k s_k U[k] V[k]ᵀ, s falling, for a list of rows; U and V are lists of unit vectors.
  function svd(M) {
    if (M.length < M[0].length) {
      const { U, s, V } = svd(transposed(M));
      return { U: V, s, V: U };
    }
    const n = M[0].length, unit = largestEntry(M) || 1, columns = columnsOf(M, unit);
    const turns = Array.from({ length: n }, (_, i) => {
      const row = new Float64Array(n);
      row[i] = 1;
      return row;
    });
    rotateApart(columns, turns);
    const sizes = columns.map(norm);
    const order = sizes.map((_, k) => k).sort((a, b) => sizes[b] - sizes[a]);
    const U = [];
    for (const k of order) U.push(sizes[k] > 0 ? columns[k].map((x) => x / sizes[k]) : another(U, M.length));
    return { U, s: order.map((k) => unit * sizes[k]), V: order.map((k) => turns[k]) };
  }

  // A unit vector at right angles to those given.
  function another(basis, length) {
    for (let i = 0; i < length; i++) {
      const x = new Float64Array(length);
      x[i] = 1;
      for (let twice = 0; twice < 2; twice++) {
        for (const b of basis) {
          const part = dot(x, b);
          for (let k = 0; k < length; k++) x[k] -= part * b[k];
        }
      }
      const size = norm(x);
      if (size > 0.5 / Math.sqrt(length)) return x.map((v) => v / size);
    }
    throw new Error("no further direction");
  }

  // x with S x = b for a symmetric positive definite S (n, n); null where it is not.
  function solvePositive(S, b) {
    const n = b.length, L = Float64Array.from(S), x = Float64Array.from(b);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++) {
        let sum = L[i * n + j];
        for (let k = 0; k < j; k++) sum -= L[i * n + k] * L[j * n + k];
        if (i > j) L[i * n + j] = sum / L[j * n + j];
        else if (sum > 0) L[i * n + i] = Math.sqrt(sum);
        else return null;
      }
    }
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < i; k++) x[i] -= L[i * n + k] * x[k];
      x[i] /= L[i * n + i];
    }
    for (let i = n - 1; i >= 0; i--) {
      for (let k = i + 1; k < n; k++) x[i] -= L[k * n + i] * x[k];
      x[i] /= L[i * n + i];
    }
    return x;
  }

  return { EPS, dot, norm, eigh, singularValues, svd, solvePositive, transposed, largestEntry };
})();

mflive.svd = mflive.linalg.svd;
mflive.eigh = (rows) => {
  const n = rows.length, { values, vectors } = mflive.linalg.eigh(Float64Array.from(rows.flat()), n);
  return {
    values: Array.from(values),
    vectors: Array.from(values, (_, k) => Array.from(vectors.subarray(k * n, k * n + n))),
  };
};
