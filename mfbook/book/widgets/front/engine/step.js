"use strict";

// One time step from a state {t, columns}. The columns that W feels follow dZ/dt = F(Z) = S(W) Z,
// a gradient flow: its Jacobian is symmetric, and one eigendecomposition a step makes every
// function of it exact. The step is the exponential Rosenbrock method of order five exprb53s3
// (Luan & Ostermann 2014). The other columns follow dx/dt = S(t) x along it by a commutator-free
// Magnus method of order four (Blanes & Moan 2006). A plateau of any length is one step.
mflive.Stepper = (() => {
  const { EPS, dot, norm, eigh } = mflive.linalg;
  const { DIRECT_SPREAD, normalised, orthogonalise, linearFlow } = mflive.gauge;

  const C2 = 0.5, C3 = 0.9;
  const ROOT = Math.sqrt(3), EARLY = (3 + 2 * ROOT) / 12, LATE = (3 - 2 * ROOT) / 12;
  const GAUSS = [0.5 - ROOT / 6, 0.5 + ROOT / 6];
  const NODES = [GAUSS[0] / 2, GAUSS[1] / 2, 0.5 + GAUSS[0] / 2, 0.5 + GAUSS[1] / 2];
  // A column that W feels may grow by at most this factor in a step: in longer ones the stages see
  // too little of the nonlinearity at the end, and neighbours lose digits against each other.
  const LARGEST_GROWTH = 30;
  // The columns rest where |F| is below this many roundings of the terms it is the sum of.
  const REST = 16;

  const TERMS = 24, INVERSE = [1];
  for (let k = 1; k < TERMS + 5; k++) INVERSE.push(INVERSE[k - 1] / k);

  // φ_1 … φ_4 of x, where φ_k(x) = ∫₀¹ e^{(1−s)x} s^{k−1}/(k−1)! ds, into out.
  function phi(x, out) {
    if (Math.abs(x) < 1.5) {
      let last = 0;
      for (let k = TERMS; k >= 0; k--) last = last * x + INVERSE[k + 4];
      out[3] = last;
      out[2] = out[3] * x + INVERSE[3];
      out[1] = out[2] * x + INVERSE[2];
      out[0] = out[1] * x + 1;
    } else {
      out[0] = Math.expm1(x) / x;
      out[1] = (out[0] - 1) / x;
      out[2] = (out[1] - 0.5) / x;
      out[3] = (out[2] - 1 / 6) / x;
    }
  }
  const now = new Float64Array(4), early = new Float64Array(4);

  function sizes(Z, d) {
    const found = [];
    for (let at = 0; at < Z.length; at += d) {
      let square = 0;
      for (let r = 0; r < d; r++) square += Z[at + r] * Z[at + r];
      found.push(Math.sqrt(square));
    }
    return found;
  }

  // ‖factor x − y‖
  function apart(x, factor, y) {
    let square = 0;
    for (let r = 0; r < x.length; r++) square += (factor * x[r] - y[r]) ** 2;
    return Math.sqrt(square);
  }

  return class {
    constructor(field, state) {
      const { d } = field;
      this.field = field;
      this.state = state;
      this.loud = state.columns.filter((c) => c.on);
      this.quiet = state.columns.filter((c) => !c.on);
      const Z = new Float64Array(d * this.loud.length);
      this.loud.forEach((c, k) => {
        const size = Math.exp(c.l);
        for (let r = 0; r < d; r++) Z[k * d + r] = size * c.x[r];
      });
      const residual = field.residual(Z);
      this.Z = Z;
      this.S = field.S(residual);
      this.F = field.times(this.S, d, Z);
      this.loss = field.loss(residual);
      let square = 0;
      for (const c of state.columns) {
        const slope = norm(field.times(this.S, d, c.x));
        square += Math.exp(2 * c.l) * slope * slope;
      }
      this.norm = Math.sqrt(square); // of the gradient of all factors
      this.sizes = sizes(Z, d);
      this.speeds = sizes(this.F, d);
      this.speed = this.speeds.reduce((top, s, k) => Math.max(top, s / this.sizes[k]), 0);
      this.atRest = this.isSlow(EPS);
      this.prepared = null;
      this.ofS = null;
    }

    // What S, and growth rates, have of columns whose entries are off by that share of them.
    noiseOf(unit) {
      const { field, S } = this, zz = norm(this.Z);
      return REST * unit * Math.sqrt(field.d) * (norm(S) + field.curvature * zz * zz);
    }

    // Whether every column is as slow as one at rest whose entries are off by that share of them.
    isSlow(unit) {
      const noise = this.noiseOf(unit);
      return this.speeds.every((speed, k) => speed <= noise * this.sizes[k]);
    }

    // Whether such errors are all that moves them; not where one of their directions grows.
    restsWithin(unit) {
      const noise = this.noiseOf(unit), rates = this.loud.length ? this.eigen.rates : [];
      return this.isSlow(unit) && rates.every((rate) => rate <= noise);
    }

    get eigenS() {
      this.ofS ??= eigh(this.S, this.field.d);
      return this.ofS;
    }

    // The Jacobian's eigenpairs, and F in their coordinates.
    get eigen() {
      if (!this.prepared) {
        const { values, vectors } = eigh(this.field.jacobian(this.Z, this.S), this.Z.length);
        this.prepared = { rates: values, Q: vectors };
        this.prepared.f = this.into(this.F);
      }
      return this.prepared;
    }

    into(x) {
      const { Q } = this.prepared, n = x.length, y = new Float64Array(n);
      for (let k = 0, at = 0; k < n; k++) {
        let sum = 0;
        for (let i = 0; i < n; i++) sum += Q[at++] * x[i];
        y[k] = sum;
      }
      return y;
    }

    outOf(y) {
      const { Q } = this.prepared, n = y.length, x = new Float64Array(n);
      for (let k = 0; k < n; k++) {
        const part = y[k];
        if (part !== 0) for (let i = 0, at = k * n; i < n; i++) x[i] += part * Q[at + i];
      }
      return x;
    }

    // Z + shift, in place of the shift.
    moved(shift) {
      for (let i = 0; i < shift.length; i++) shift[i] += this.Z[i];
      return shift;
    }

    // F(Z + shift) − F(Z) − J shift in the coordinates of the eigenvectors, where the shift is y.
    nonlinear(y) {
      const { field } = this, Z = this.moved(this.outOf(y));
      const F = field.times(field.S(field.residual(Z)), field.d, Z);
      for (let i = 0; i < F.length; i++) F[i] -= this.F[i];
      const D = this.into(F), { rates } = this.eigen;
      for (let k = 0; k < y.length; k++) D[k] -= rates[k] * y[k];
      return D;
    }

    // What the two inner stages of a step of length h tell: D_2 and D_3.
    stages(h) {
      const { rates, f } = this.eigen, n = rates.length, y = new Float64Array(n);
      const first = new Float64Array(n), second = new Float64Array(n);
      for (let k = 0; k < n; k++) {
        phi(C2 * h * rates[k], early);
        phi(C3 * h * rates[k], now);
        y[k] = C2 * h * early[0] * f[k];
        first[k] = C3 * h * now[0];
        second[k] = h * ((27 / 25) * early[2] + (729 / 125) * now[2]);
      }
      const D2 = this.nonlinear(y);
      for (let k = 0; k < n; k++) y[k] = first[k] * f[k] + second[k] * D2[k];
      return { D2, D3: this.nonlinear(y) };
    }

    // Z(θh).
    inside(h, theta, { D2, D3 }) {
      const { rates, f } = this.eigen, y = new Float64Array(rates.length);
      const cube = h * theta ** 3, fourth = h * theta ** 4;
      for (let k = 0; k < y.length; k++) {
        phi(theta * h * rates[k], now);
        y[k] =
          h * theta * now[0] * f[k] +
          (18 * cube * now[2] - 60 * fourth * now[3]) * D2[k] +
          (250 / 81) * (6 * fourth * now[3] - cube * now[2]) * D3[k];
      }
      return this.moved(this.outOf(y));
    }

    // How far the embedded method of order three is from the end of the step.
    gap(h, { D2, D3 }) {
      const { rates } = this.eigen, y = new Float64Array(rates.length);
      for (let k = 0; k < y.length; k++) {
        phi(h * rates[k], now);
        const second = 10 * now[2] - 60 * now[3], third = (250 / 81) * (6 * now[3] - now[2]);
        y[k] = h * (second * D2[k] + third * D3[k]);
      }
      return this.outOf(y);
    }

    // The state after time h, and the largest error of a column relative to its size; no state
    // where the error is seen to exceed tol.
    step(h, tol = Infinity) {
      const { d } = this.field;
      if (this.atRest) {
        const { values, vectors } = this.eigenS;
        const grown = linearFlow(this.quiet, values.map((rate) => h * rate), vectors);
        return { state: this.assembled(h, this.Z, grown), error: 0 };
      }
      const stages = this.stages(h), Z = this.inside(h, 1, stages);
      const before = sizes(this.Z, d), after = sizes(Z, d);
      let error = 0;
      sizes(this.gap(h, stages), d).forEach((missed, k) => {
        const grown = after[k] <= LARGEST_GROWTH * before[k];
        error = Math.max(error, grown ? missed / Math.max(before[k], after[k]) : Infinity);
      });
      if (!Number.isFinite(error)) error = Infinity;
      if (!(error <= tol)) return { state: null, error };
      if (!this.quiet.length) return { state: this.assembled(h, Z, []), error };
      const nodes = NODES.map((theta) => this.inside(h, theta, stages));
      const passive = this.passive(h, nodes);
      error = Math.max(error, passive.error);
      return { state: this.assembled(h, Z, passive.columns), error };
    }

    // The quiet columns along Z at the four nodes: two half steps, and one step for the error.
    passive(h, nodes) {
      const { field, quiet } = this, { d } = field;
      const S = nodes.map((Z) => field.S(field.residual(Z)));
      const sum = (weights) => {
        const total = new Float64Array(d * d);
        for (let n = 0; n < 4; n++) {
          const w = weights[n], of = S[n];
          for (let at = 0; at < total.length; at++) total[at] += w * of[at];
        }
        return total;
      };
      const moment = NODES.map((node) => (node - 0.5) / 4);
      const exponents = [
        sum(moment.map((w) => h * (1 / 8 - 2 * w))),
        sum(moment.map((w) => h * (1 / 8 + 2 * w))),
        sum([(h / 2) * EARLY, (h / 2) * LATE, 0, 0]),
        sum([(h / 2) * LATE, (h / 2) * EARLY, 0, 0]),
        sum([0, 0, (h / 2) * EARLY, (h / 2) * LATE]),
        sum([0, 0, (h / 2) * LATE, (h / 2) * EARLY]),
      ].map((exponent) => eigh(exponent, d));
      const long = exponents.some(({ values }) => values[d - 1] - values[0] > DIRECT_SPREAD);
      const through = (parts) => {
        let columns = quiet;
        for (const { values, vectors } of parts) columns = linearFlow(columns, values, vectors);
        return long ? orthogonalise(columns) : columns;
      };
      const coarse = through(exponents.slice(0, 2)), fine = through(exponents.slice(2));
      const start = quiet.map((c) => c.l).sort((a, b) => b - a);
      let gap = 0;
      fine.forEach((c, k) => {
        if (c.l === -Infinity) return;
        const other = coarse[k], off = other.l - c.l;
        if (long) {
          // The gauges of the two differ; sizes and the leading direction do not.
          gap = Math.max(gap, Math.abs(off) / Math.max(1, Math.abs(c.l - start[k])));
        } else {
          gap = Math.max(gap, apart(other.x, Math.exp(off), c.x));
        }
      });
      if (long && fine[0].l > -Infinity) {
        const cosine = dot(coarse[0].x, fine[0].x);
        gap = Math.max(gap, apart(fine[0].x, cosine, coarse[0].x));
      }
      return { columns: fine, error: gap / 15 }; // 2⁴ − 1, Richardson
    }

    assembled(h, Z, quiet) {
      const { d } = this.field;
      const loud = this.loud.map(({ v }, k) => ({
        ...normalised(Z.slice(k * d, k * d + d), 0), v, on: true,
      }));
      const rest = quiet.map((c) => ({ ...c, on: false }));
      return { t: this.state.t + h, columns: [...loud, ...rest] };
    }
  };
})();
