"use strict";

// Factors of one width for the observed entries of one component, by Levenberg–Marquardt.
mflive.Entries = (() => {
  const { EPS, dot, svd, solvePositive, product, largestOf, largestEntry } = mflive.linalg;

  // Factors fit that agree with every entry to this share of it.
  const FITS = 1e-12;
  // Residuals this small are polished by exact steps, a few times, without what is below CUT.
  const CLOSE = 1e-9, MOST_TRIES = 4, CUT = 1e-11;
  // The damping falls where the loss fell and rises where it did not.
  const FALL = 4, RISE = 3, LEAST = 1e-12, MOST = 1e8, FLOOR = 1e-14;

  return class {
    constructor({ values, mask, size: scale, a, b }) {
      this.at = mask.flatMap((row, i) => row.flatMap((seen, j) => (seen ? [[i, j]] : [])));
      this.target = this.at.map(([i, j]) => values[i][j]);
      this.scale = scale;
      // What one is of each entry, before the scaling.
      this.unit = this.at.map(([i, j]) => 2 ** -(a[i] + b[j]));
    }

    residual(A, B) {
      return Float64Array.from(this.at, ([i, j], e) =>
        A[i].reduce((sum, a, k) => sum + a * B[k][j], -this.target[e]),
      );
    }

    // The factors less Jᵀ y, for one number an entry.
    moved(A, B, y) {
      const a = A.map((row) => row.slice()), b = B.map((row) => row.slice());
      this.at.forEach(([i, j], e) => {
        for (let w = 0; w < b.length; w++) {
          a[i][w] -= y[e] * B[w][j];
          b[w][j] -= y[e] * A[i][w];
        }
      });
      return [a, b];
    }

    // The factors after undamped steps of least norm, down to rounding.
    polished(A, B, residual) {
      const m = A.length, n = B[0].length, width = B.length;
      for (let step = 0; step < 4; step++) {
        const J = this.at.map(([i, j]) => {
          const row = new Float64Array((m + n) * width);
          for (let w = 0; w < width; w++) {
            row[i * width + w] = B[w][j];
            row[(m + j) * width + w] = A[i][w];
          }
          return row;
        });
        // J = U s Vᵀ, so Jᵀ y with y = U s⁻² Uᵀ r is the step.
        const { U, s } = svd(J);
        const parts = s.map((x, k) => (x > CUT * s[0] ? dot(U[k], residual) / x ** 2 : 0));
        const y = residual.map((_, e) => parts.reduce((sum, part, k) => sum + part * U[k][e], 0));
        const [a, b] = this.moved(A, B, y), after = this.residual(a, b);
        if (!(largestOf(after) < largestOf(residual))) break;
        [A, B, residual] = [a, b, after];
      }
      return [A, B];
    }

    // Whether A B has every entry, so far as a product in double precision can: up to `FITS` of it
    // and the rounding of the sum that makes it, and these up to `FITS` of the largest, before the
    // scaling and after it.
    agrees(A, B) {
      const missing = this.residual(A, B), width = B.length;
      let scaled = 0, given = 0, largest = 0;
      for (const [e, [i, j]] of this.at.entries()) {
        const target = Math.abs(this.target[e]), off = Math.abs(missing[e]);
        const terms = A[i].reduce((sum, x, k) => sum + Math.abs(x * B[k][j]), 0);
        const rounding = width * EPS * terms;
        if (off > FITS * target + 8 * rounding) return false;
        scaled = Math.max(scaled, off + rounding);
        given = Math.max(given, (off + rounding) * this.unit[e]);
        largest = Math.max(largest, target * this.unit[e]);
      }
      return scaled <= FITS * this.scale && given <= FITS * largest;
    }

    // Factors that fit with a product up to `largest`, from (A, B) within so many steps, or null.
    search(A, B, steps, largest) {
      const { at } = this, count = at.length, width = B.length;
      let residual = this.residual(A, B), loss = dot(residual, residual), damping = 1;
      let tries = 0;
      for (let step = 0; step <= steps; step++) {
        if (largestOf(residual) <= CLOSE * this.scale && tries++ < MOST_TRIES) {
          const [a, b] = this.polished(A, B, residual);
          if (largestEntry(product(a, b)) <= largest && this.agrees(a, b)) return [a, b];
        }
        const H = new Float64Array(count * count);
        let trace = 0;
        for (let e = 0; e < count; e++) {
          const [i, j] = at[e];
          for (let f = 0; f <= e; f++) {
            const [k, l] = at[f];
            let sum = 0;
            if (i === k) for (let w = 0; w < width; w++) sum += B[w][j] * B[w][l];
            if (j === l) for (let w = 0; w < width; w++) sum += A[i][w] * A[k][w];
            H[e * count + f] = H[f * count + e] = sum;
          }
          trace += H[e * count + e];
        }
        for (let e = 0; e < count; e++) H[e * count + e] += damping + FLOOR * trace;
        const y = solvePositive(H, residual);
        if (y) {
          const [newA, newB] = this.moved(A, B, y);
          const tried = this.residual(newA, newB), after = dot(tried, tried);
          if (after < loss) {
            [A, B, residual, loss] = [newA, newB, tried, after];
            damping = Math.max(damping / FALL, LEAST);
            continue;
          }
        }
        damping *= RISE;
        if (damping > MOST) return null;
      }
      return null;
    }
  };
})();
