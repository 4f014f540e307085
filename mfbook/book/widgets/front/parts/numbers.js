"use strict";
// Numbers as words, as the book's figures write them.

mflive.numbers = (() => {
  const MINUS = "−";
  const RAISED = {
    "-": "⁻",
    0: "⁰",
    1: "¹",
    2: "²",
    3: "³",
    4: "⁴",
    5: "⁵",
    6: "⁶",
    7: "⁷",
    8: "⁸",
    9: "⁹",
  };

  const trimmed = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  const signed = (text) => (text === "-0" ? "0" : text.replace("-", MINUS));
  const raised = (k) => [...String(k)].map((sign) => RAISED[sign] ?? sign).join("");

  // To so many significant digits; what is below a thousandth counts as zero.
  function digits(x, count = 4) {
    if (!Number.isFinite(x)) return "?";
    if (Math.abs(x) < 5e-4) return "0";
    const k = Math.floor(Math.log10(Math.abs(x)));
    if (k > 5) return signed(`${trimmed((x / 10 ** k).toFixed(1))}·10${raised(k)}`);
    return signed(k >= count ? x.toFixed(0) : trimmed(x.toPrecision(count)));
  }

  // 10^k, written, and as a screen reader should say it.
  const power = (k) => (k === 0 ? "1" : `10${raised(k)}`);
  const spoken = (k) => (k === 0 ? "one" : `ten to the ${k < 0 ? "minus " : ""}${Math.abs(k)}`);

  const list = (words) =>
    words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
  const counted = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

  return { digits, power, spoken, raised, list, counted };
})();
