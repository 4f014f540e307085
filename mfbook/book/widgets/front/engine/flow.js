"use strict";

// The run of a request: its problem, checked, followed, and doubted where it must be.
mflive.flow = (() => {
  const { largestEntry } = mflive.linalg;
  const { LOSS_REACHED, TIME_LIMIT, STUCK, ROUNDING } = mflive.REASONS;

  // ‖∇f(0)‖ and all the rest go by squares.
  const LARGEST = 1e152;

  function problemOf(request) {
    const { values, seed, log10_scale = 0, rtol = 1e-4, loss_tol = 1e-10, loss = "mean" } = request;
    const m = values.length, n = values[0].length, mask = mflive.maskOf(values);
    const parts = mflive.components(mask);
    if (!parts.length) {
      throw new Error("no entry is observed: there is nothing to fit; observe one");
    }
    const known = values.flat().filter((v) => v !== null);
    if (!known.every(Number.isFinite)) throw new Error("an observed entry must be a finite number");
    const largest = known.reduce((top, v) => Math.max(top, Math.abs(v)), 0);
    if (largest > 0 && !(largest >= 1 / LARGEST && largest <= LARGEST)) {
      throw new Error(`the largest entry must be between 1e-152 and 1e152, but is ${largest}`);
    }
    if (!Number.isFinite(log10_scale)) throw new Error("the scale must be 10 to a finite power");
    const [A, B] = request.factors ?? mflive.smallInit(m, n, seed);
    const start = Math.max(largestEntry(A), largestEntry(B));
    if (!(A.length === m && B[0].length === n && A[0].length === B.length && B.length > 0)) {
      throw new Error(`the factors must multiply to ${m} × ${n}`);
    }
    if (!(start > 0 && start < Infinity)) {
      throw new Error("the factors must be finite, and not all zero: the flow stays at zero");
    }
    const most = Math.min(50 + 0.5 * Math.log10(largest || 1), 76.5);
    if (!(log10_scale + Math.log10(start) <= most)) {
      throw new Error(`the start is too large: its entries must stay below 10^${most.toFixed(0)}`);
    }
    return {
      values, mask, A, B, parts, largest, m, n,
      logScale: log10_scale * Math.LN10,
      weight: loss === "half" ? 0.5 : 1 / known.length,
      rtol,
      lossTol: loss_tol,
      maxSteps: request.max_steps ?? 5000,
    };
  }

  // The run of a request, doubted where it must be, and why it ended.
  return (request, isLate = () => false) => {
    const problem = problemOf(request);
    const run = new mflive.Run(problem).follow(isLate);
    let { reason } = run;
    if ((reason === LOSS_REACHED || reason === STUCK) && run.mayLoseSectors) {
      const again = new mflive.Run(problem, mflive.rng(0)).follow(isLate);
      if (again.limit === TIME_LIMIT) reason = TIME_LIMIT;
      else if (!run.isSameAs(again)) reason = ROUNDING;
    }
    return { run, reason };
  };
})();
