"use strict";

// Indices at which a run rests: minima of the gradient's norm between rises by a factor of ten (the
// start counts if a rise follows), and the last index.
mflive.restingTimes = (norms) => {
  const log = norms.map((x) => Math.log(Math.max(x, 2 ** -1022))), threshold = Math.log(10);
  const rests = [];
  let low = log[0], high = -Infinity, at = 0, falling = true;
  for (let k = 1; k < log.length; k++) {
    if (falling) {
      if (log[k] < low) {
        low = log[k];
        at = k;
      } else if (log[k] > low + threshold) {
        rests.push(at);
        falling = false;
        high = log[k];
      }
    } else {
      high = Math.max(high, log[k]);
      if (log[k] < high - threshold) {
        falling = true;
        low = log[k];
        at = k;
      }
    }
  }
  return [...rests, log.length - 1];
};

// What a front end asks: a request and its answer, both plain data.
mflive.answer = (() => {
  const { singularValues } = mflive.linalg;
  // A rest is searched between two steps by this many golden sections: to 1e-3 of their distance.
  const SECTIONS = 14, GOLDEN = (Math.sqrt(5) - 1) / 2;
  // What a frame is worth: a move of W by its largest size, a decade of the loss, all of the time.
  const OF_LOSS = 0.05, OF_TIME = 0.5;
  const DECADES = 10;

  function reading(run, t) {
    const at = run.at(t), factors = run.factors(at), W = run.W(at, factors);
    return {
      t, W, factors,
      loss: run.loss(at),
      norm: run.gradientNorm(at),
      singular: singularValues(W),
    };
  }

  // In the caller's units, and with plain lists.
  function told(run, { t, W, loss }) {
    return { time: t / run.unit, W, loss: run.unit * run.unit * loss };
  }

  function phases(run, samples) {
    const known = 1e-3 * samples.reduce((top, { singular }) => Math.max(top, singular[0]), 0);
    return mflive.restingTimes(samples.map(({ norm }) => norm)).map((k) => {
      const inner = k > 0 && k < samples.length - 1;
      const found = inner
        ? quietest(run, samples[k - 1].t, samples[k + 1].t, samples[k])
        : samples[k];
      return { ...told(run, found), rank: found.singular.filter((s) => s > known).length };
    });
  }

  // Where the gradient is smallest between two times, by golden sections.
  function quietest(run, low, high, known) {
    const norm = (t) => run.gradientNorm(run.at(t));
    let a = high - GOLDEN * (high - low), b = low + GOLDEN * (high - low);
    let ofA = norm(a), ofB = norm(b);
    for (let k = 0; k < SECTIONS; k++) {
      if (ofA < ofB) {
        [high, b, ofB] = [b, a, ofA];
        a = high - GOLDEN * (high - low);
        ofA = norm(a);
      } else {
        [low, a, ofA] = [a, b, ofB];
        b = low + GOLDEN * (high - low);
        ofB = norm(b);
      }
    }
    const best = Math.min(ofA, ofB) < known.norm ? (ofA < ofB ? a : b) : known.t;
    return best === known.t ? known : reading(run, best);
  }

  // `count` instants from the first to the last, closer where W, or the loss in decades, moves.
  function instants(samples, count) {
    const last = samples[samples.length - 1], size = Math.max(...samples.map((s) => s.singular[0]));
    const decades = ({ loss }) => Math.log10(Math.max(loss / samples[0].loss, 10 ** -DECADES)) || 0;
    const passed = [0];
    for (let k = 1; k < samples.length; k++) {
      const [a, b] = [samples[k - 1], samples[k]];
      let square = 0;
      b.W.forEach((row, i) => row.forEach((w, j) => (square += (w - a.W[i][j]) ** 2)));
      const moved = size > 0 ? Math.sqrt(square) / size : 0;
      const fallen = Math.abs(decades(b) - decades(a)), waited = (b.t - a.t) / last.t;
      passed.push(passed[k - 1] + moved + OF_LOSS * fallen + OF_TIME * waited);
    }
    if (samples.length === 1) return count > 0 ? [last.t] : [];
    const found = [];
    for (let q = 0, k = 1; q < count - 1; q++) {
      const aim = (passed[passed.length - 1] * q) / (count - 1);
      while (k < samples.length - 1 && passed[k] < aim) k++;
      const share = (aim - passed[k - 1]) / (passed[k] - passed[k - 1]) || 0;
      found.push(samples[k - 1].t + share * (samples[k].t - samples[k - 1].t));
    }
    return count > 0 ? [...found, last.t] : [];
  }

  const plain = (M) => M.map((row) => Array.from(row));

  return (request) => {
    const begun = performance.now(), most = request.max_ms ?? Infinity;
    const isLate = () => performance.now() - begun > most;
    const { run, reason } = mflive.flow(request, isLate);
    const samples = run.times().map((t) => reading(run, t));
    const end = samples[samples.length - 1];
    const frames = instants(samples, request.frames ?? 0).map((t) => {
      const found = reading(run, t), [A, B] = found.factors.map(plain);
      const { time, W, loss } = told(run, found);
      return { t: time, loss, singular_values: found.singular, W, A, B };
    });
    return {
      converged: reason === mflive.REASONS.LOSS_REACHED,
      reason,
      n_steps: run.taken,
      W: end.W,
      A: plain(end.factors[0]),
      B: plain(end.factors[1]),
      phases: phases(run, samples),
      frames,
      classes: { connectivity: mflive.connectivity(run.mask), components: run.parts },
      ms: performance.now() - begun,
    };
  };
})();
