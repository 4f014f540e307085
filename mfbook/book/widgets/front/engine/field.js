"use strict";

// One connected component as the flow sees it. With U = [A; Bᵀ] the flow is dU/dt = S(W) U with
// S = [[0, −G], [−Gᵀ, 0]], G = ∇f(W). Stacks of columns are flat, column after column. With a
// basis E, an orthonormal list of vectors, columns are in coordinates of its span.
mflive.Field = class {
  constructor({ i, j, values, m, n, weight }, E = null) {
    Object.assign(this, { i, j, values, m, n, weight, E });
    this.p = m + n;
    this.d = E ? E.length : this.p;
    this.count = values.length;
    this.low = j.map((column) => m + column);
    this.curvature = 2 * weight; // the largest eigenvalue of ∇²f
  }

  within(E) {
    return new mflive.Field(this, E);
  }

  // Columns in the component's own rows and columns.
  whole(Z) {
    const { E, d, p } = this;
    if (!E) return Z;
    const k = Z.length / d, U = new Float64Array(p * k);
    for (let c = 0; c < k; c++) {
      for (let e = 0; e < d; e++) {
        const z = Z[c * d + e], vector = E[e];
        for (let r = 0; r < p; r++) U[c * p + r] += z * vector[r];
      }
    }
    return U;
  }

  residual(Z) {
    const U = this.whole(Z), { p } = this, r = new Float64Array(this.count);
    for (let l = 0; l < r.length; l++) {
      let product = -this.values[l];
      for (let at = 0, a = this.i[l], b = this.low[l]; at < U.length; at += p) {
        product += U[at + a] * U[at + b];
      }
      r[l] = product;
    }
    return r;
  }

  loss(residual) {
    return this.weight * mflive.linalg.dot(residual, residual);
  }

  // The symmetric matrix of the flow at a residual.
  S(residual) {
    const { E, d, p } = this, S = new Float64Array(p * p);
    for (let l = 0; l < residual.length; l++) {
      const g = -2 * this.weight * residual[l], a = this.i[l], b = this.low[l];
      S[a * p + b] = g;
      S[b * p + a] = g;
    }
    if (!E) return S;
    const half = E.map((vector) => this.times(S, p, vector)), reduced = new Float64Array(d * d);
    for (let a = 0; a < d; a++) {
      for (let b = 0; b <= a; b++) {
        reduced[a * d + b] = reduced[b * d + a] = mflive.linalg.dot(half[a], E[b]);
      }
    }
    return reduced;
  }

  // S Z for columns of length n.
  times(S, n, Z) {
    const out = new Float64Array(Z.length);
    for (let at = 0; at < Z.length; at += n) {
      for (let r = 0; r < n; r++) {
        let sum = 0;
        for (let c = 0, row = r * n; c < n; c++) sum += S[row + c] * Z[at + c];
        out[at + r] = sum;
      }
    }
    return out;
  }

  // J = S ⊗ I − 2w KᵀK, the Jacobian of the flow of columns Z, with K = dr/dZ.
  jacobian(Z, S) {
    const { d, p, E, low } = this, k = Z.length / d, size = k * d, U = this.whole(Z);
    const J = new Float64Array(size * size);
    for (let c = 0; c < k; c++) {
      for (let a = 0; a < d; a++) {
        for (let b = 0; b < d; b++) J[(c * d + a) * size + c * d + b] = S[a * d + b];
      }
    }
    const at = [], slope = [];
    for (let l = 0; l < this.count; l++) {
      const a = this.i[l], b = low[l];
      at.length = slope.length = 0;
      for (let c = 0; c < k; c++) {
        const up = U[c * p + b], down = U[c * p + a];
        if (!E) {
          at.push(c * d + a, c * d + b);
          slope.push(up, down);
          continue;
        }
        for (let e = 0; e < d; e++) {
          at.push(c * d + e);
          slope.push(E[e][a] * up + E[e][b] * down);
        }
      }
      for (let x = 0; x < at.length; x++) {
        const factor = 2 * this.weight * slope[x], row = at[x] * size;
        for (let y = 0; y < at.length; y++) J[row + at[y]] -= factor * slope[y];
      }
    }
    return J;
  }
};
