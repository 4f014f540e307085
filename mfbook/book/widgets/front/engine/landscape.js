"use strict";

// The Hessian of the loss over two balanced factors of W with `rank` hidden columns: its least and
// its largest eigenvalue. A critical point is a saddle among the matrices of its rank if the least
// is negative; changes of the factors that keep their product give at least rank² zeros.
mflive.curvature = (W, values, rank) => {
  const m = W.length, n = W[0].length, { U, s, V } = mflive.svd(W);
  const roots = Array.from({ length: rank }, (_, k) => Math.sqrt(s[k]));
  const a = (i, k) => roots[k] * U[k][i], b = (k, j) => roots[k] * V[k][j];
  const places = values.flatMap((row, i) => row.flatMap((v, j) => (v === null ? [] : [[i, j]])));
  const size = rank * (m + n), weight = 2 / places.length;
  const H = Array.from({ length: size }, () => new Float64Array(size));
  for (const [i, j] of places) {
    const slope = Array.from({ length: rank }, (_, k) => [
      [i * rank + k, b(k, j)],
      [m * rank + j * rank + k, a(i, k)],
    ]);
    for (const [p, x] of slope.flat()) for (const [q, y] of slope.flat()) H[p][q] += weight * x * y;
    for (const [[p], [q]] of slope) {
      H[p][q] += weight * (W[i][j] - values[i][j]);
      H[q][p] += weight * (W[i][j] - values[i][j]);
    }
  }
  const found = size ? Array.from(mflive.eigh(H.map((row) => Array.from(row))).values) : [0];
  return { least: Math.min(...found), largest: Math.max(...found) };
};
