"use strict";

// The words for why a run ended, as in mfbook.flow.trajectory.
mflive.REASONS = {
  LOSS_REACHED: "loss reached",
  STEP_LIMIT: "step limit",
  TIME_LIMIT: "time limit",
  STUCK: "stopped at a critical point that is not a global minimum",
  DROWNED: "the loss is down to the rounding of W, and not to its tolerance",
  UNBOUNDED: "W grows on, far beyond the data: no critical point in sight",
  ROUNDING: "where it ends is decided by rounding: a symmetry of data and start hides a direction",
  STEP_TOO_SMALL: "step size below rounding",
};

// One component followed through all its saddles: step control, and when to stop.
mflive.Path = (() => {
  const { EPS } = mflive.linalg;
  const { LOOSE, normalised, largestCosine, orthogonalise, graded, timeToReach } = mflive.gauge;
  const { invariantBasis, largestRate } = mflive.sectors;
  const { LOSS_REACHED, STUCK, DROWNED, UNBOUNDED, STEP_TOO_SMALL } = mflive.REASONS;

  // W feels a column when its square exceeds this times rtol, as a fraction of the data's scale.
  const FELT = 1e-8;
  // A column that is not felt may pass that threshold by this much in its logarithm within a step.
  const OVERSHOOT = 3;
  // The error of a step over rtol. At rtol = 1e-4, which pages ask for, the ends of runs are then
  // within 5e-5 of those at 1e-6 (see tests/browser/test_live_engine.py); 5 would cost 30 % less.
  const LOCAL = 1, ORDER = 4, GROW = 8, SHRINK = 0.1, SAFETY = 0.9;
  // Growth rates below this fraction of the largest at zero are rounding, not growth.
  const RATE_FLOOR = 1e-13;
  // Losses are rounding below this share of that at zero.
  const ROUNDING = (4 * EPS) ** 2;
  // Residuals down to this share of W, of before its terms cancel, prove no critical point.
  const DROWNING = 1e-11;
  // A shaken run perturbs every entry of the columns by this share of it after every step on its
  // way.
  const SHAKE = 1e-13;
  // Given up as unbounded where W exceeds FAR y_max²/y_min, has grown by GROWN while time grew
  // tenfold, and the loss has not fallen by FALLEN meanwhile.
  const FAR = 1e3, GROWN = 1.2, FALLEN = 0.1;

  return class {
    // The graded columns of e^logScale · U, U by its columns; `shaker` draws normal numbers.
    constructor(field, U, logScale, rtol, shaker = null) {
      let columns = graded(U, logScale);
      if (columns.length && columns.length < field.p) {
        const E = invariantBasis(field, columns);
        if (E) {
          field = field.within(E);
          columns = columns.map((c) => ({
            ...c, ...normalised(Float64Array.from(E, (e) => mflive.linalg.dot(e, c.x)), c.l),
          }));
        }
      }
      this.field = field;
      this.rtol = rtol;
      this.shaker = shaker;
      const zero = new Float64Array(field.d);
      this.fastest = largestRate(field.S(field.residual(zero)), field.d);
      const largest = columns.reduce((top, c) => Math.max(top, c.l), -Infinity);
      // The size of W at which the data are fitted; of the start itself where zero fits them.
      const size = this.fastest / field.curvature || Math.exp(Math.min(2 * largest, 700));
      this.felt = size > 0 ? 0.5 * Math.log(FELT * rtol * size) : Infinity;
      for (const c of columns) c.on = c.l >= this.felt;
      this.steps = [];
      this.reason = "";
      this.h = null;
      this.add({ t: 0, columns });
    }

    get last() {
      return this.steps[this.steps.length - 1];
    }

    get t() {
      return this.last.state.t;
    }

    get taken() {
      return this.steps.length - 1;
    }

    add(state) {
      const { field } = this;
      this.steps.push(new mflive.Stepper(field, state));
      const { loss } = this.last, { values } = field;
      if (loss <= ROUNDING * field.loss(values)) this.reason = LOSS_REACHED;
      else if (state.columns.every((c) => c.on) && this.runsAway()) this.reason = UNBOUNDED;
    }

    // The next step, or the reason why there is none.
    advance() {
      const stepper = this.last, { state } = stepper, tol = LOCAL * this.rtol;
      const floor = RATE_FLOOR * this.fastest;
      const { values, vectors } = stepper.eigenS;
      const rates = values.map((rate) => (Math.abs(rate) <= floor ? 0 : rate));
      const bound = timeToReach(stepper.quiet, rates, vectors, this.felt + 1e-6);
      if (stepper.atRest) {
        if (!Number.isFinite(bound)) {
          this.reason = stepper.loss <= this.roundingOf(stepper.Z) ? DROWNED : STUCK;
          return;
        }
        this.h = bound;
      }
      this.h ??= tol ** (1 / ORDER) / Math.max(stepper.speed, floor, 1e-300);
      let h = Math.min(this.h, bound);
      while (h > 4 * EPS * state.t && h > 0) {
        const found = stepper.step(h, tol);
        if (found.state && found.error <= tol) {
          const over = found.state.columns.some((c) => !c.on && c.l > this.felt + OVERSHOOT);
          if (!over) {
            const longer = SAFETY * (tol / Math.max(found.error, 1e-300)) ** (1 / ORDER);
            this.h = h * Math.min(GROW, longer);
            this.add(this.regraded(this.shaken(found.state, stepper)));
            return;
          }
          h *= 0.25;
        } else if (!Number.isFinite(found.error)) {
          h *= 0.25;
        } else {
          h *= Math.max(SHRINK, SAFETY * (tol / found.error) ** (1 / ORDER));
        }
      }
      this.reason = STEP_TOO_SMALL;
    }

    // The columns perturbed; those that W feels only on their way, and not where they rest: there
    // the perturbation itself would be all that moves them, and for ever.
    shaken({ t, columns }, stepper) {
      if (!this.shaker) return { t, columns };
      const rests = stepper.restsWithin(SHAKE);
      const moved = columns.map((c) => {
        if (rests && c.on) return c;
        const x = c.x.map((entry) => entry * (1 + SHAKE * this.shaker.normal()));
        return { ...c, ...normalised(x, c.l) };
      });
      return { t, columns: moved };
    }

    // The columns orthogonal again if they lean, and anew which of them W feels.
    regraded({ t, columns }) {
      if (largestCosine(columns) > LOOSE) {
        columns = orthogonalise(columns);
        for (const c of columns) c.on = c.l >= this.felt;
      } else {
        // One that has been felt stays so until it is a hundred times below the threshold.
        const kept = this.felt - Math.log(100);
        for (const c of columns) c.on = c.l >= this.felt || (c.on && c.l >= kept);
      }
      return { t, columns };
    }

    // A loss that residuals of a W of this size may have where rounding hides how they fall.
    roundingOf(Z) {
      const { field } = this, zz = mflive.linalg.dot(Z, Z);
      const top = field.values.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
      return field.weight * field.count * (DROWNING * (top + field.curvature * zz)) ** 2;
    }

    runsAway() {
      const { state, loss } = this.last;
      const known = this.field.values.map(Math.abs).filter((v) => v > 0);
      if (!known.length) return false;
      const size = ({ columns }) => columns.reduce((sum, c) => sum + Math.exp(2 * c.l), 0);
      const far = (FAR * Math.max(...known) ** 2) / Math.min(...known);
      if (size(state) <= far) return false;
      const before = this.steps[this.before(state.t / 10)];
      return size(before.state) * GROWN <= size(state) && loss >= FALLEN * before.loss;
    }

    // The number of the last state at or before a time.
    before(t) {
      let low = 0, high = this.steps.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (this.steps[middle].state.t <= t) low = middle;
        else high = middle - 1;
      }
      return low;
    }

    // What is known at a time, from the end of the path on that of its last state: a step that was
    // taken is taken again, shorter.
    at(t) {
      const stepper = this.steps[this.before(t)], h = Math.min(t, this.t) - stepper.state.t;
      return h > 0 ? new mflive.Stepper(this.field, stepper.step(h).state) : stepper;
    }
  };
})();
