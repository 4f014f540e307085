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

  const transposed = (M) => Array.from(M[0], (_, j) => M.map((row) => row[j]));
  const largestOf = (x) => x.reduce((top, entry) => Math.max(top, Math.abs(entry)), 0);
  const largestEntry = (M) => M.reduce((top, row) => Math.max(top, largestOf(row)), 0);

  // A B, for lists of rows.
  function product(A, B) {
    return A.map((row) => {
      const sums = Array(B[0].length).fill(0);
      row.forEach((a, k) => B[k].forEach((b, j) => (sums[j] += a * b)));
      return sums;
    });
  }

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
    for (const k of order) {
      const size = sizes[k];
      U.push(size > 0 ? columns[k].map((x) => x / size) : another(U, M.length));
    }
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

  return {
    EPS, dot, norm, largestOf, largestEntry, product, transposed,
    singularValues, svd, solvePositive,
  };
})();

mflive.svd = mflive.linalg.svd;
