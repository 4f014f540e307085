"use strict";

// The matrix of least nuclear norm that fits, with a proof of how close to the least it is.
//
//     min ‖W‖_*  s.t.  W_ij = M_ij on Ω    =    max ⟨Y, M⟩  s.t.  Y = 0 off Ω,  ‖Y‖₂ ≤ 1
//
// Σ √(σ² + μ²) is smooth and convex, and Newton's method follows its minimum as μ falls. Where its
// derivative Y off Ω is zero, it is a dual point, and the gap is of the size of μ.
mflive.minNuclear = (() => {
  const { EPS, dot, eigh, singularValues, solvePositive, largestEntry } = mflive.linalg;
  // The gap, in units of the value, that is sought, and that counts as proof.
  const AIM = 1e-10, ENOUGH = 1e-6;
  const FALL = 0.25, LEAST = 1e-13, NEWTON_STEPS = 25;
  // Newton ends where its decrement is this share of μ: off Ω the derivative is then near 10^-6.
  const CENTRED = 1e-12;

  // With the symmetric matrix [[0, W], [Wᵀ, 0]] = Σ λ q qᵀ, and h(λ) = √(λ² + μ²).
  class Smoothed {
    constructor(W, mu) {
      const m = W.length, n = W[0].length, p = m + n, S = new Float64Array(p * p);
      W.forEach((row, i) => row.forEach((w, j) => (S[i * p + m + j] = S[(m + j) * p + i] = w)));
      const { values, vectors } = eigh(S, p);
      Object.assign(this, { m, n, p, mu, lambda: values, Q: vectors });
      this.roots = values.map((x) => Math.sqrt(x * x + mu * mu));
      this.value = this.roots.reduce((sum, r) => sum + r, 0) / 2;
    }

    get gradient() {
      const { m, n, p, Q, lambda, roots } = this;
      return Array.from({ length: m }, (_, i) =>
        Array.from({ length: n }, (_, j) => {
          let sum = 0;
          for (let k = 0; k < p; k++) {
            sum += (lambda[k] / roots[k]) * Q[k * p + i] * Q[k * p + m + j];
          }
          return sum;
        }),
      );
    }

    // The derivative of the gradient at the entries (i, j) along each other.
    hessian(free) {
      const { m, p, Q } = this, u = free.length, H = new Float64Array(u * u);
      const rows = free.map(() => new Float64Array((p * (p + 1)) / 2));
      let at = 0;
      for (let k = 0; k < p; k++) {
        for (let l = 0; l <= k; l++, at++) {
          const root = Math.sqrt(this.divided(k, l) * (k === l ? 0.5 : 1));
          free.forEach(([i, j], e) => {
            const b = m + j;
            rows[e][at] = root * (Q[k * p + i] * Q[l * p + b] + Q[k * p + b] * Q[l * p + i]);
          });
        }
      }
      for (let a = 0; a < u; a++) {
        for (let b = 0; b <= a; b++) H[a * u + b] = H[b * u + a] = dot(rows[a], rows[b]);
      }
      return H;
    }

    // The divided difference of h′(λ) = λ / √(λ² + μ²), without cancellation.
    divided(k, l) {
      const a = this.lambda[k], b = this.lambda[l], A = this.roots[k], B = this.roots[l];
      if (a * b > 0) return (this.mu ** 2 * (a + b)) / (A * B * (a * B + b * A));
      return a === b ? 1 / A : (a / A - b / B) / (a - b);
    }
  }

  // No matrix that fits has a smaller nuclear norm than ⟨Y, M⟩ / ‖Y‖₂, for any Y on Ω.
  function lowerBound(Y, M) {
    let pairing = 0, terms = 0;
    Y.forEach((row, i) => {
      row.forEach((y, j) => {
        pairing += y * M[i][j];
        terms += Math.abs(y * M[i][j]);
      });
    });
    const size = singularValues(Y)[0] * (1 + 8 * Math.max(Y.length, Y[0].length) * EPS);
    return size > 0 ? Math.max(0, (pairing - M.flat().length * EPS * terms) / size) : 0;
  }

  return (values) => {
    const mask = mflive.maskOf(values);
    const unit = largestEntry(mflive.zeroFilled(values)) || 1;
    const M = mflive.zeroFilled(values).map((row) => row.map((v) => v / unit));
    const free = mask.flatMap((row, i) => row.flatMap((seen, j) => (seen ? [] : [[i, j]])));
    const sum = (W) => singularValues(W).reduce((a, b) => a + b, 0);
    let W = M, best = { W: M, value: sum(M) }, bound = 0;
    for (let mu = 1; mu >= LEAST; mu *= FALL) {
      let at = new Smoothed(W, mu);
      for (let step = 0; step < NEWTON_STEPS && free.length; step++) {
        const slope = at.gradient, g = Float64Array.from(free, ([i, j]) => slope[i][j]);
        const move = solvePositive(at.hessian(free), g);
        if (!move) break;
        const decrement = dot(g, move);
        const moved = (share) => {
          const V = W.map((row) => row.slice());
          free.forEach(([i, j], e) => (V[i][j] -= share * move[e]));
          return V;
        };
        let share = 1, next = null;
        for (; share > 1e-4; share /= 2) {
          next = new Smoothed(moved(share), mu);
          if (next.value <= at.value - 0.1 * share * decrement) break;
          next = null;
        }
        if (!next) break;
        W = moved(share);
        at = next;
        if (decrement <= CENTRED * mu) break;
      }
      const value = sum(W);
      if (value < best.value) best = { W, value };
      const Y = at.gradient.map((row, i) => row.map((y, j) => (mask[i][j] ? y : 0)));
      bound = Math.max(bound, lowerBound(Y, M));
      if (best.value - bound <= AIM * best.value) break;
    }
    const gap = Math.max(best.value - bound, 0);
    return {
      W: best.W.map((row, i) => row.map((w, j) => values[i][j] ?? unit * w)),
      value: unit * best.value,
      lower_bound: unit * Math.min(bound, best.value),
      gap: unit * gap,
      sure: gap <= ENOUGH * best.value,
    };
  };
})();
