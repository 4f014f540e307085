"use strict";

// Greedy low-rank learning (Li, Luo & Lyu 2021, Algorithm 1) with two factors: a new hidden column
// along the top singular pair of −∇f, short, then the flow to the next critical point, and so on.
mflive.glrl = (() => {
  const { svd, norm, product, singularValues } = mflive.linalg;
  const { LOSS_REACHED, STUCK } = mflive.REASONS;
  const RANK_LIMIT = "rank limit";
  // The squared length of a new column, in units of the data's size.
  const SHORT = 1e-7;
  // Singular values below this share of the largest do not count for a rank.
  const NUMERICAL = 1e-6;

  function rankOf(W) {
    const s = singularValues(W);
    return s.filter((x) => x > NUMERICAL * s[0]).length;
  }

  // The pair (u, v) of the component that the flow leaves for, zero outside of it.
  function escape(values, parts, W) {
    const G = values.map((row, i) => row.map((v, j) => (v === null ? 0 : v - W[i][j])));
    const { U, V } = svd(G), u = U[0], v = V[0];
    const share = ({ rows }) => rows.reduce((sum, i) => sum + u[i] * u[i], 0);
    const part = parts.reduce((a, b) => (share(b) > share(a) ? b : a));
    const only = (x, kept) => {
      const inside = Float64Array.from(x, (entry, k) => (kept.includes(k) ? entry : 0));
      const size = norm(inside);
      return inside.map((entry) => entry / size);
    };
    return { u: only(u, part.rows), v: only(v, part.cols), part };
  }

  return ({ values, rtol = 1e-5, loss_tol = 1e-10, loss = "mean", max_steps = 2000 }) => {
    const m = values.length, n = values[0].length, parts = mflive.components(mflive.maskOf(values));
    const length = Math.sqrt((SHORT / 2) * singularValues(mflive.zeroFilled(values))[0]);
    let A = values.map(() => []), B = [], reason = length === 0 ? LOSS_REACHED : "";
    const points = [values.map((row) => row.map(() => 0))], ofColumns = [];
    while (!reason) {
      const W = points[points.length - 1], { u, v, part } = escape(values, parts, W);
      A = A.map((row, i) => [...row, length * u[i]]);
      B = [...B, Array.from(v, (entry) => length * entry)];
      ofColumns.push(part);
      const request = { values, factors: [A, B], log10_scale: 0, rtol, loss_tol, loss, max_steps };
      const found = mflive.answer(request);
      // On disconnected data the rest of a column would grow from rounding.
      A = found.A.map((row, i) => row.map((a, k) => (ofColumns[k].rows.includes(i) ? a : 0)));
      B = found.B.map((row, k) => row.map((b, j) => (ofColumns[k].cols.includes(j) ? b : 0)));
      points.push(product(A, B));
      if (found.reason !== STUCK) reason = found.reason;
      else if (B.length === Math.min(m, n)) reason = RANK_LIMIT;
    }
    return {
      critical_points: points,
      ranks: points.map(rankOf),
      W: points[points.length - 1],
      converged: reason === LOSS_REACHED,
      reason,
    };
  };
})();
