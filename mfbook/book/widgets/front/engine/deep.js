"use strict";

// Gradient flow of W = W_1 ⋯ W_N on the layers as they stand, for small problems from starts that
// are not too small. Steps are exponential ones (exprb32 of Hochbruck and Ostermann, order 3): the
// flow is linearised where it is, with the exact Hessian, and what grows or decays at the rates of
// that is followed exactly. So a rest that lasts α^−(N−2) costs few steps, and no growth is damped.
mflive.deep = (() => {
  const { product, transposed, singularValues } = mflive.linalg;
  const { LOSS_REACHED, STEP_LIMIT, TIME_LIMIT, STEP_TOO_SMALL } = mflive.REASONS;
  const GROW = 5, SHRINK = 0.2, SAFETY = 0.9, FIRST = 1e-3;
  // Singular values below this share of the largest do not count for the rank of a rest.
  const COUNTS = 1e-3;

  // φ_1 and φ_3, where φ_k(x) = ∫₀¹ e^{(1−s)x} s^{k−1}/(k−1)! ds.
  const phi1 = (x) => (Math.abs(x) < 1e-8 ? 1 + x / 2 : Math.expm1(x) / x);
  function phi3(x) {
    if (Math.abs(x) > 0.5) return ((phi1(x) - 1) / x - 0.5) / x;
    let sum = 0, term = 1 / 6;
    for (let k = 4; k < 18; k++) {
      sum += term;
      term *= x / k;
    }
    return sum;
  }

  const identity = (n) =>
    Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => Number(i === j)));

  class Layers {
    constructor(values, shapes, weight) {
      Object.assign(this, { values, shapes, weight });
      this.starts = [0];
      for (const [r, c] of shapes) this.starts.push(this.starts.at(-1) + r * c);
      this.size = this.starts.at(-1);
    }

    flat(layers) {
      return Float64Array.from(layers.flat(2));
    }

    layers(u) {
      return this.shapes.map(([r, c], j) =>
        Array.from({ length: r }, (_, a) =>
          Array.from(u.subarray(this.starts[j] + a * c, this.starts[j] + (a + 1) * c)),
        ),
      );
    }

    // Everything about a point: W, the loss, the velocity, and what the Jacobian is made from.
    at(u) {
      const layers = this.layers(u), count = layers.length, { values, weight } = this;
      const before = [identity(layers[0].length)], after = [identity(layers[count - 1][0].length)];
      for (let j = 0; j < count - 1; j++) before.push(product(before[j], layers[j]));
      for (let j = count - 1; j > 0; j--) after.unshift(product(layers[j], after[0]));
      const W = product(before[count - 1], layers[count - 1]);
      let loss = 0;
      const G = W.map((row, i) =>
        row.map((w, j) => {
          if (values[i][j] === null) return 0;
          const rest = w - values[i][j];
          loss += weight * rest * rest;
          return 2 * weight * rest;
        }),
      );
      const left = before.map((P) => product(transposed(P), G));
      const velocity = new Float64Array(this.size);
      layers.forEach((_, j) => {
        const slope = product(left[j], transposed(after[j]));
        slope.flat().forEach((x, k) => (velocity[this.starts[j] + k] = -x));
      });
      return { u, layers, before, after, left, W, loss, velocity };
    }

    // The symmetric Jacobian of the velocity, row after row.
    jacobian({ layers, before, after, left }) {
      const { values, weight, size, shapes, starts } = this;
      const J = new Float64Array(size * size);
      const seen = values.flatMap((row, i) => row.flatMap((v, j) => (v === null ? [] : [[i, j]])));
      const slope = new Float64Array(size);
      for (const [i, j] of seen) {
        shapes.forEach(([r, c], l) => {
          for (let a = 0; a < r; a++) {
            const at = starts[l] + a * c;
            for (let b = 0; b < c; b++) slope[at + b] = before[l][i][a] * after[l][b][j];
          }
        });
        for (let p = 0; p < size; p++) {
          const x = 2 * weight * slope[p];
          if (x) for (let q = 0; q < size; q++) J[p * size + q] -= x * slope[q];
        }
      }
      for (let k = 0; k < shapes.length; k++) {
        for (let l = k + 1; l < shapes.length; l++) {
          const outer = product(left[k], transposed(after[l]));
          let inner = identity(shapes[k][1]);
          for (let q = k + 1; q < l; q++) inner = product(inner, layers[q]);
          const [rows, cols] = [shapes[k], shapes[l]];
          for (let a = 0; a < rows[0]; a++) {
            for (let b = 0; b < rows[1]; b++) {
              const p = starts[k] + a * rows[1] + b;
              for (let c = 0; c < cols[0]; c++) {
                for (let d = 0; d < cols[1]; d++) {
                  const q = starts[l] + c * cols[1] + d, x = outer[a][d] * inner[b][c];
                  J[p * size + q] -= x;
                  J[q * size + p] -= x;
                }
              }
            }
          }
        }
      }
      return J;
    }
  }

  // A step of length h from a point, and the error of each unknown.
  function step(model, { u, velocity }, { values: rates, vectors }, h) {
    const n = u.length;
    const turned = (x) => {
      const found = new Float64Array(n);
      for (let k = 0; k < n; k++) {
        for (let i = 0; i < n; i++) found[k] += vectors[k * n + i] * x[i];
      }
      return found;
    };
    const back = (x) => {
      const found = new Float64Array(n);
      for (let k = 0; k < n; k++) {
        for (let i = 0; i < n; i++) found[i] += vectors[k * n + i] * x[k];
      }
      return found;
    };
    const moved = turned(velocity).map((x, k) => h * phi1(h * rates[k]) * x);
    const middle = back(moved).map((x, i) => u[i] + x);
    const there = model.at(middle).velocity;
    const change = turned(there.map((x, i) => x - velocity[i]));
    const bent = change.map((x, k) => x - rates[k] * moved[k]);
    const error = back(bent.map((x, k) => 2 * h * phi3(h * rates[k]) * x));
    return { next: middle.map((x, i) => x + error[i]), error };
  }

  function rests(steps) {
    const top = Math.max(...steps.map(({ singular_values: s }) => s[0]));
    return mflive.restingTimes(steps.map(({ norm }) => norm)).map((k) => {
      const { t, W, loss, singular_values: s } = steps[k];
      return { time: t, W, loss, rank: s.filter((x) => x > COUNTS * top).length };
    });
  }

  return (request) => {
    const { values, depth, seed, log10_scale, rtol = 1e-4, loss_tol = 1e-10 } = request;
    const { loss = "mean", max_steps = 2000, max_ms = Infinity } = request;
    const begun = performance.now(), m = values.length, n = values[0].length;
    const known = values.flat().filter((v) => v !== null);
    if (!known.length) throw new Error("no entry is observed: there is nothing to fit; observe one");
    const sides = [m, ...Array(depth - 1).fill(Math.min(m, n)), n];
    const shapes = sides.slice(1).map((c, j) => [sides[j], c]);
    const model = new Layers(values, shapes, loss === "half" ? 0.5 : 1 / known.length);
    const rng = mflive.rng(seed), scale = 10 ** log10_scale;
    const drawn = shapes.map(([r, c]) => rng.normals(r, c).map((row) => Array.from(row)));
    const aim = loss_tol * known.reduce((sum, v) => sum + model.weight * v * v, 0);
    let here = model.at(model.flat(drawn).map((x) => scale * x)), t = 0, h = 0, reason = "", taken = 0;
    const steps = [];
    const keep = () => {
      const norm = Math.sqrt(here.velocity.reduce((sum, x) => sum + x * x, 0));
      const singular_values = singularValues(here.W);
      steps.push({ t, loss: here.loss, W: here.W, norm, singular_values });
    };
    keep();
    while (!reason) {
      if (here.loss <= aim) reason = LOSS_REACHED;
      else if (taken >= max_steps) reason = STEP_LIMIT;
      else if (performance.now() - begun > max_ms) reason = TIME_LIMIT;
      if (reason) break;
      const spectrum = mflive.linalg.eigh(model.jacobian(here), model.size);
      const fastest = Math.max(...Array.from(spectrum.values, Math.abs));
      if (!h) h = FIRST / fastest;
      for (;;) {
        const { next, error } = step(model, here, spectrum, h);
        let worst = 0;
        error.forEach((e, i) => {
          worst = Math.max(worst, Math.abs(e) / (rtol * (scale + Math.abs(here.u[i]))));
        });
        const factor = SAFETY * worst ** (-1 / 3);
        if (worst <= 1) {
          t += h;
          taken += 1;
          here = model.at(next);
          keep();
          h *= Math.min(GROW, Math.max(SHRINK, factor));
          break;
        }
        h *= Number.isFinite(factor) ? Math.max(SHRINK, factor) : SHRINK;
        if (!(t + h > t)) {
          reason = STEP_TOO_SMALL;
          break;
        }
      }
    }
    return {
      converged: reason === LOSS_REACHED,
      reason,
      n_steps: taken,
      W: here.W,
      phases: rests(steps),
      frames: steps,
      ms: performance.now() - begun,
    };
  };
})();
