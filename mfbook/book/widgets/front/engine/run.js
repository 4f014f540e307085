"use strict";

// All components of a problem in one run, and what is read off it. The components evolve without
// knowing of each other, in units in which the data have size one; the caller's hidden basis and
// units tie them together again.
mflive.Run = (() => {
  const { EPS, product, largestEntry } = mflive.linalg;
  const REASONS = mflive.REASONS;
  const { LOSS_REACHED, STEP_LIMIT, TIME_LIMIT, STUCK, DROWNED } = REASONS;

  // Those of a component that has come to rest for good.
  const AT_REST = [LOSS_REACHED, STUCK, DROWNED];
  // Of several reasons of components the first of these is that of the run.
  const BY_WEIGHT = [REASONS.STEP_TOO_SMALL, REASONS.UNBOUNDED, DROWNED, STUCK, LOSS_REACHED];
  // The end of a run is where the loss crosses its tolerance, to this in the loss.
  const CROSSING = 1e-6;
  // A unit of W is a power of four between these.
  const MOST = 505;
  // Between two rests so many S(W) tell whether they share an invariant subspace; those near the
  // end say little, for S drowns in rounding there.
  const WITNESSES = 6, NEAR_THE_END = 1e-8;
  // Two runs of one start may differ by so many rtol, and in when a column is felt by this.
  const APART = 20, SHIFTED = 0.1;

  return class {
    constructor(problem, shaker = null) {
      Object.assign(this, problem);
      const { values, mask, A, B, logScale, weight, parts } = problem;
      const size = this.largest, largest = Math.max(largestEntry(A), largestEntry(B));
      const log2 =
        size > 0
          ? Math.log2(size)
          : Math.max(-MOST, Math.min(MOST, (2 * (logScale + Math.log(largest))) / Math.LN2));
      const power = Math.floor(log2 / 2);
      this.unit = 4 ** power; // of W, of the data and of rates
      this.root = 2 ** power; // of the factors
      const columns = A[0].map((_, k) => [A.map((row) => row[k]), B[k]]);
      this.paths = parts.map(({ rows, cols }) => {
        const i = [], j = [], known = [];
        rows.forEach((row, a) => {
          cols.forEach((col, b) => {
            if (!mask[row][col]) return;
            i.push(a);
            j.push(b);
            known.push(values[row][col] / this.unit);
          });
        });
        const field = new mflive.Field({
          i, j, values: Float64Array.from(known), m: rows.length, n: cols.length, weight,
        });
        const U = columns.map(([a, b]) =>
          Float64Array.from([...rows.map((r) => a[r]), ...cols.map((c) => b[c])]),
        );
        return new mflive.Path(field, U, logScale - power * Math.LN2, this.rtol, shaker);
      });
      this.still = Math.exp(logScale); // rows and columns without an entry stay
      const total = this.paths.reduce((sum, { field }) => sum + field.loss(field.values), 0);
      this.threshold = Math.max(this.lossTol, (4 * EPS) ** 2) * total;
      // Where zero fits the data, only the start has a size that a tolerance may refer to.
      if (total === 0) this.threshold = this.lossTol * this.loss(this.at(0));
      this.above = 0;
      this.crossing = null;
      this.limit = "";
    }

    get taken() {
      return this.paths.reduce((sum, path) => sum + path.taken, 0);
    }

    follow(isLate) {
      while (!this.hasArrived()) {
        const running = this.paths.filter((path) => !path.reason);
        if (!running.length) break;
        if (this.taken >= this.maxSteps) this.limit = STEP_LIMIT;
        else if (isLate()) this.limit = TIME_LIMIT;
        if (this.limit) break;
        running.reduce((a, b) => (b.t < a.t ? b : a)).advance();
      }
      return this;
    }

    get reason() {
      if (this.crossing !== null) return LOSS_REACHED;
      const found = this.paths.map((path) => path.reason);
      return this.limit || BY_WEIGHT.find((reason) => found.includes(reason));
    }

    // Whether the loss has crossed the threshold at a time that all components have reached.
    hasArrived() {
      const horizon = this.end;
      if (this.paths.reduce((sum, path) => sum + path.last.loss, 0) <= this.threshold) {
        if (this.loss(this.at(horizon)) <= this.threshold) {
          this.crossing = this.cross(this.above, horizon);
          return true;
        }
      }
      this.above = horizon;
      // Where one has stopped above the threshold, others end at their share of it.
      const stopped = this.paths.filter(({ reason }) => reason === STUCK || reason === DROWNED);
      if (stopped.reduce((sum, path) => sum + path.last.loss, 0) > this.threshold) {
        for (const path of this.paths) {
          if (!path.reason && path.last.loss <= this.threshold / this.paths.length) {
            path.reason = LOSS_REACHED;
          }
        }
      }
      return false;
    }

    // Where log f meets its threshold, by the Illinois variant of the false position.
    cross(low, high) {
      if (this.threshold === 0) return high;
      const height = (t) => Math.log(Math.max(this.loss(this.at(t)), 1e-300) / this.threshold);
      let atLow = height(low), atHigh = height(high), side = 0;
      if (atLow <= 0) return low;
      for (let k = 0; k < 100; k++) {
        const middle = (low * atHigh - high * atLow) / (atHigh - atLow);
        if (!(low < middle && middle < high)) break;
        const value = height(middle);
        if (-CROSSING <= value && value <= 0) return middle;
        if (value > 0) {
          low = middle;
          atLow = value;
          if (side > 0) atHigh /= 2;
          side = 1;
        } else {
          high = middle;
          atHigh = value;
          if (side < 0) atLow /= 2;
          side = -1;
        }
      }
      return high;
    }

    // The last time that all components reach; one that has stopped for good stays there.
    get end() {
      if (this.crossing !== null) return this.crossing;
      const moving = this.paths.filter((path) => !AT_REST.includes(path.reason));
      return moving.length
        ? Math.min(...moving.map((path) => path.t))
        : Math.max(...this.paths.map((path) => path.t));
    }

    at(t) {
      return this.paths.map((path) => path.at(t));
    }

    // The times of all steps up to the end.
    times() {
      const { end } = this, found = new Set([end]);
      for (const { steps } of this.paths) {
        for (const { state } of steps) if (state.t <= end) found.add(state.t);
      }
      return [...found].sort((a, b) => a - b);
    }

    // What is read off at steppers `at` is in the engine's units up to here, in the caller's below.

    loss(at) {
      return at.reduce((sum, { loss }) => sum + loss, 0);
    }

    gradientNorm(at) {
      return Math.sqrt(at.reduce((sum, { norm }) => sum + norm * norm, 0));
    }

    factors(at) {
      const A = this.A.map((row) => row.map((a) => this.still * a));
      const B = this.B.map((row) => row.map((b) => this.still * b));
      at.forEach(({ field, state }, k) => {
        const { rows, cols } = this.parts[k], { m, p } = field, width = B.length;
        const U = Array.from({ length: p }, () => new Float64Array(width));
        for (const { x, l, v } of state.columns) {
          const size = this.root * Math.exp(l), whole = field.whole(x);
          for (let r = 0; r < p; r++) {
            for (let c = 0; c < width; c++) U[r][c] += whole[r] * size * v[c];
          }
        }
        rows.forEach((row, a) => {
          A[row] = Array.from(U[a]);
        });
        cols.forEach((col, b) => {
          for (let c = 0; c < width; c++) B[c][col] = U[m + b][c];
        });
      });
      return [A, B];
    }

    W(at, [A, B] = this.factors(at)) {
      const W = product(A, B);
      // Columns of one hidden basis give W without the rounding of a rotation.
      at.forEach(({ field, state }, k) => {
        const { rows, cols } = this.parts[k], { m } = field;
        const columns = state.columns.map(({ x, l }) => [field.whole(x), Math.exp(2 * l)]);
        rows.forEach((row, a) => {
          cols.forEach((col, b) => {
            let sum = 0;
            for (const [x, size] of columns) sum += x[a] * size * x[m + b];
            W[row][col] = this.unit * sum;
          });
        });
      });
      return W;
    }

    // Whether S(W) falls apart along the run of a component, so that rounding may decide its end.
    get mayLoseSectors() {
      return this.paths.some(({ field, steps }) => {
        if (field.count === field.m * field.n) return false;
        const least = NEAR_THE_END * steps[0].loss;
        const far = steps.flatMap(({ loss }, k) => (loss > least ? [k] : []));
        if (!far.length) return false;
        const rests = mflive.restingTimes(steps.map(({ norm }) => norm));
        const last = far[far.length - 1];
        const marks = new Set([0, ...rests.filter((k) => far.includes(k)), last]);
        const bounds = [...marks].sort((a, b) => a - b);
        return bounds.slice(1).some((high, q) => {
          const low = bounds[q], chosen = new Set();
          for (let w = 0; w < WITNESSES; w++) {
            chosen.add(Math.floor(low + ((high - low) * w) / (WITNESSES - 1)));
          }
          return mflive.sectors.fallsApart([...chosen].map((k) => steps[k].S), field.d);
        });
      });
    }

    // Whether two runs end at one W, and their columns were felt one after the other at one time.
    isSameAs(other) {
      for (const [q, path] of this.paths.entries()) {
        let felt = 0;
        for (const { state } of path.steps) {
          const count = state.columns.filter((c) => c.on).length;
          if (count <= felt) continue;
          felt = count;
          const sizes = [state, other.paths[q].at(state.t).state].map(
            ({ columns }) => columns.map((c) => c.l).sort((a, b) => b - a)[count - 1],
          );
          const apart = Math.abs(sizes[0] - sizes[1]);
          if (!(apart <= Math.max(SHIFTED, APART * this.rtol))) return false;
        }
      }
      const [W, V] = [this, other].map((run) => run.W(run.at(run.end)));
      const size = Math.max(largestEntry(W), this.unit);
      const apart = largestEntry(W.map((row, i) => row.map((w, j) => w - V[i][j])));
      return apart <= APART * this.rtol * size;
    }
  };
})();
