"use strict";

// The random numbers of NumPy's default_rng, to the last bit where no logarithm enters:
// SeedSequence hashes a seed, PCG64 (O'Neill 2014, XSL-RR 128/64) makes 64 bits at a time, and the
// ziggurat (Marsaglia & Tsang 2000) of 256 strips makes them normal.
mflive.rng = (() => {
  const WORD = 0xffffffffn, LONG = (1n << 64n) - 1n, WIDE = (1n << 128n) - 1n;
  const MULTIPLIER = (2549297995355413924n << 64n) + 4865540595714422341n;
  const POOL = 4;

  // The 32-bit words of a whole number, the lowest first, or those of a list of them.
  function words(seed) {
    if (Array.isArray(seed)) return seed.flatMap(words);
    if (typeof seed !== "bigint" && !(Number.isInteger(seed) && seed >= 0)) {
      throw new Error(`a seed must be a whole number, not negative, but is ${seed}`);
    }
    const found = [];
    let rest = BigInt(seed);
    do {
      found.push(Number(rest & WORD));
      rest >>= 32n;
    } while (rest > 0n);
    return found;
  }

  function hasher(start, factor) {
    let constant = start;
    return (value) => {
      const mixed = value ^ constant;
      constant = Math.imul(constant, factor) >>> 0;
      const product = Math.imul(mixed, constant) >>> 0;
      return (product ^ (product >>> 16)) >>> 0;
    };
  }

  function mix(x, y) {
    const result = (Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y)) >>> 0;
    return (result ^ (result >>> 16)) >>> 0;
  }

  // Four 64-bit numbers of a seed.
  function seedSequence(seed) {
    const entropy = words(seed), hash = hasher(0x43b0d7e5, 0x931e8875);
    const pool = Array.from({ length: POOL }, (_, i) => hash(entropy[i] ?? 0));
    for (let from = 0; from < POOL; from++) {
      for (let to = 0; to < POOL; to++) {
        if (from !== to) pool[to] = mix(pool[to], hash(pool[from]));
      }
    }
    for (const word of entropy.slice(POOL)) {
      for (let to = 0; to < POOL; to++) pool[to] = mix(pool[to], hash(word));
    }
    const out = hasher(0x8b51f9dd, 0x58f38ded);
    const halves = Array.from({ length: 8 }, (_, i) => BigInt(out(pool[i % POOL])));
    return [0, 2, 4, 6].map((i) => halves[i] | (halves[i + 1] << 32n));
  }

  class PCG64 {
    constructor(seed) {
      const [a, b, c, d] = seedSequence(seed);
      this.increment = ((((c << 64n) | d) << 1n) | 1n) & WIDE;
      this.state = (this.increment + ((a << 64n) | b)) & WIDE;
      this.step();
      this.kept = null; // the upper half of a number whose lower half was asked for
    }

    step() {
      this.state = (this.state * MULTIPLIER + this.increment) & WIDE;
    }

    next64() {
      this.step();
      const folded = ((this.state >> 64n) ^ this.state) & LONG, turn = this.state >> 122n;
      return ((folded >> turn) | (folded << (64n - turn))) & LONG;
    }

    next32() {
      if (this.kept !== null) {
        const word = this.kept;
        this.kept = null;
        return word;
      }
      const both = this.next64();
      this.kept = both >> 32n;
      return both & WORD;
    }
  }

  // The strips below exp(−x²/2): all have the area of the lowest, which holds the tail beyond R.
  const STRIPS = 256, R = 3.6541528853610088, AREA = 0.004928673233974655;
  const UNIT = 2 ** 52;
  let tables = null;

  // Right ends of the strips, 1 the highest. From R upwards exp(−x²/2) grows by AREA / x a strip,
  // from 1 downwards 1 − exp(−x²/2) does: each is good to the last bits on its own half.
  function edges() {
    const x = new Float64Array(STRIPS);
    x[STRIPS - 1] = R;
    for (let i = STRIPS - 1, height = Math.exp(-0.5 * R * R); i > STRIPS / 2; i--) {
      height += AREA / x[i];
      x[i - 1] = Math.sqrt(-2 * Math.log(height));
    }
    for (let i = 1, depth = 0, at = 0.2; i < STRIPS / 2; i++) {
      for (let k = 0; k < 20; k++) {
        const fall = -Math.expm1(-0.5 * at * at);
        at -= (fall - AREA / at - depth) / (at * (1 - fall) + AREA / (at * at));
      }
      x[i] = at;
      depth += AREA / at;
    }
    return x;
  }

  function strips() {
    const x = edges();
    x[0] = AREA / Math.exp(-0.5 * R * R); // as long as if the tail were part of a rectangle
    const height = x.map((edge, i) => (i ? Math.exp(-0.5 * edge * edge) : 1));
    const inner = x.map((_, i) => (i === 0 ? R : i === 1 ? 0 : x[i - 1]));
    return {
      width: x.map((edge) => edge / UNIT),
      keep: x.map((edge, i) => Math.floor((inner[i] / edge) * UNIT)),
      height,
    };
  }

  class Generator {
    constructor(seed) {
      this.bits = new PCG64(seed);
    }

    // From [0, 1).
    random() {
      return Number(this.bits.next64() >> 11n) / 2 ** 53;
    }

    normal() {
      tables ??= strips();
      const { width, keep, height } = tables;
      for (;;) {
        const r = this.bits.next64();
        const i = Number(r & 0xffn), negative = (r >> 8n) & 1n;
        const place = (r >> 9n) & 0xfffffffffffffn;
        const x = Number(place) * width[i] * (negative ? -1 : 1);
        if (Number(place) < keep[i]) return x;
        if (i > 0) {
          const y = height[i] + (height[i - 1] - height[i]) * this.random();
          if (y < Math.exp(-0.5 * x * x)) return x;
          continue;
        }
        for (;;) {
          const beyond = -Math.log1p(-this.random()) / R, y = -Math.log1p(-this.random());
          if (2 * y > beyond * beyond) return (place >> 8n) & 1n ? -(R + beyond) : R + beyond;
        }
      }
    }

    // From low, …, high − 1, all equally likely; high − low at most 2^32 − 1.
    integers(low, high) {
      const range = high - low;
      if (!(Number.isInteger(low) && Number.isInteger(high) && range >= 1 && range < 2 ** 32)) {
        throw new Error(`integers need whole numbers low < high < low + 2^32, not ${low}, ${high}`);
      }
      if (range === 1) return low;
      const count = BigInt(range), threshold = (1n << 32n) % count;
      for (;;) {
        const product = this.bits.next32() * count;
        if ((product & WORD) >= threshold) return low + Number(product >> 32n);
      }
    }

    // 0, …, count − 1 in random order.
    permutation(count) {
      const found = Array.from({ length: count }, (_, i) => i);
      for (let i = count - 1; i > 0; i--) {
        const mask = 2 ** (32 - Math.clz32(i)) - 1;
        let j;
        do j = Number(this.bits.next32() & BigInt(mask));
        while (j > i);
        [found[i], found[j]] = [found[j], found[i]];
      }
      return found;
    }

    // A matrix of normal numbers, drawn row after row.
    normals(rows, columns) {
      const row = () => Array.from({ length: columns }, () => this.normal());
      return Array.from({ length: rows }, row);
    }
  }

  return (seed) => new Generator(seed);
})();

// The directions of mf.small_init((m, n), width=width, rng=seed).
mflive.smallInit = (m, n, seed, width = Math.min(m, n)) => {
  const rng = mflive.rng(seed);
  return [rng.normals(m, width), rng.normals(width, n)];
};

// Those of mf.populations: a mask with `size` entries, and a product of Gaussian factors.
mflive.randomMask = (rng, m, n, size) => {
  const mask = Array.from({ length: m }, () => Array(n).fill(false));
  for (const place of rng.permutation(m * n).slice(0, size)) {
    mask[Math.floor(place / n)][place % n] = true;
  }
  return mask;
};

mflive.randomLowRank = (rng, m, n, rank) => {
  const A = rng.normals(m, rank), B = rng.normals(rank, n);
  return rank ? mflive.linalg.product(A, B) : A.map(() => Array(n).fill(0));
};
