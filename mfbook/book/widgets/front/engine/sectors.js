"use strict";

// Subspaces that the flow cannot leave, and that rounding would: symmetric data from (A, Aᵀ) keep
// W = A Aᵀ positive semidefinite, a dependent start never gains a rank. The flow is followed inside
// the smallest one. Where S(W) falls apart only along a run, `fallsApart` tells, and the run is
// doubted.
mflive.sectors = (() => {
  const { dot, norm, eigh } = mflive.linalg;
  // A direction counts as inside a subspace to this many roundings.
  const SAME = 1e-13;
  // A coupling below this, relative to S, is not told from none.
  const COUPLED = 1e-9;

  // An orthonormal basis of the smallest invariant subspace that holds the columns; null where
  // that is the whole space. S is affine in W and W quadratic in U: a subspace is invariant if S(0)
  // and the linear part of S at every product of its vectors keep it; random ones stand for all.
  function invariantBasis(field, columns) {
    const rng = mflive.rng(0), { p } = field;
    const E = [];
    enlarge(E, columns.map((c) => c.x), p);
    const zero = new Float64Array(p), atZero = field.S(field.residual(zero));
    const size = norm(atZero) + field.curvature;
    for (let quiet = 0; E.length < p && quiet < 3; ) {
      const before = E.length;
      const Z = new Float64Array(p * before);
      for (let c = 0; c < before; c++) {
        for (const vector of E) {
          const part = rng.normal();
          for (let r = 0; r < p; r++) Z[c * p + r] += part * vector[r];
        }
      }
      const length = norm(Z);
      const there = field.S(field.residual(Z.map((z) => z / length)));
      const linear = there.map((s, at) => s - atZero[at]);
      const images = [atZero, linear].flatMap((S) =>
        E.map((vector) => field.times(S, p, vector).map((x) => x / size)),
      );
      enlarge(E, images, p);
      quiet = E.length === before ? quiet + 1 : 0;
    }
    return E.length < p ? E : null;
  }

  // What of the vectors lies outside of E joins it, by Gram and Schmidt, twice.
  function enlarge(E, vectors, p) {
    const without = (x) => {
      for (const e of E) {
        const part = dot(e, x);
        for (let r = 0; r < p; r++) x[r] -= part * e[r];
      }
      return x;
    };
    for (const vector of vectors) {
      if (E.length === p) return;
      const rest = without(without(vector.slice())), length = norm(rest);
      if (!(length > SAME)) continue;
      const unit = without(rest.map((x) => x / length)), again = norm(unit);
      E.push(unit.map((x) => x / again));
    }
  }

  // Whether symmetric matrices of order n have a common invariant subspace. In the eigenbasis of a
  // random combination they are spanned by eigenvectors, unless eigenvalues tie.
  function fallsApart(matrices, n) {
    const rng = mflive.rng(0), live = [];
    for (const S of matrices) {
      const size = largestRate(S, n);
      if (size > 0) live.push(S.map((s) => s / size));
    }
    if (!live.length) return true;
    const mixed = new Float64Array(n * n);
    for (const S of live) {
      const weight = rng.normal();
      S.forEach((s, at) => {
        mixed[at] += weight * s;
      });
    }
    const { vectors } = eigh(mixed, n);
    const basis = Array.from({ length: n }, (_, k) => vectors.subarray(k * n, k * n + n));
    const linked = basis.map(() => new Set());
    for (const S of live) {
      basis.forEach((b, k) => {
        const image = basis.map((_, r) => dot(S.subarray(r * n, r * n + n), b));
        basis.forEach((other, l) => {
          if (Math.abs(dot(other, image)) > COUPLED) linked[k].add(l);
        });
      });
    }
    const reached = new Set([0]);
    for (const k of reached) for (const l of linked[k]) reached.add(l);
    return reached.size < n;
  }

  function largestRate(S, n) {
    const { values } = eigh(S, n);
    return Math.max(-values[0], values[n - 1]);
  }

  return { invariantBasis, fallsApart, largestRate };
})();
