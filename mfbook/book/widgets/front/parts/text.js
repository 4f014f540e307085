"use strict";
// A matrix as text: the grammar of MatrixCompletion.from_text, with null for what is not observed.

mflive.text = (() => {
  const LARGEST = 8;
  const SIGNS = ["?", "*", "★", "⋆", "☆", "_", ".", "-", "−", "–", "—"];
  const WORDS = ["nan", "na", "n/a", "<na>", "none", "null"];
  const UNOBSERVED = new Set([...SIGNS, ...WORDS]);
  const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
  const LINES = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/;

  class Misread extends Error {}
  const fail = (words) => {
    throw new Misread(words);
  };

  // One cell: a number, null where it is not observed, undefined where it makes no sense.
  function readCell(word) {
    const text = word.trim();
    if (text === "" || UNOBSERVED.has(text.toLowerCase())) return null;
    const plain = text.replace(/^[−–](?=[\d.])/, "-").replace(/e[−–](?=\d)/i, "e-");
    const value = NUMBER.test(plain) ? Number(plain) : NaN;
    return Number.isFinite(value) ? value : undefined;
  }

  function wordsOf(row, separator) {
    const split = (text) => text.split(/\s+/).filter(Boolean);
    if (separator === null) return split(row);
    return row.split(separator).flatMap((cell) => {
      const words = split(cell);
      return words.length ? words : [""];
    });
  }

  function rowsOf(given) {
    let text = given.replace(/^\ufeff/, "").replace(/\ufeff/g, " ");
    if (text.includes("[")) {
      text = text.trim().replace(/\]\s*[,;]?\s*\[/g, "\n");
      text = text.replace(/^[[\s]+|[\]\s]+$/g, "");
    }
    let separator = text.includes(",") ? "," : text.includes("\t") ? "\t" : null;
    const tabs = separator === "\t";
    const blank = (row) => (tabs ? row.replace(/[ \r]/g, "") : row.trim()) === "";
    const lines = text.split(LINES);
    const full = lines.filter((line) => !blank(line));
    if (tabs && full.length && full.every((line) => line.startsWith("\t"))) {
      if (full.some((line) => line.trim().includes("\t"))) {
        fail(
          "Every row begins with a tab and holds others: is that an indentation, or an empty " +
            "first cell? Remove the indentation, or write ? for an empty cell.",
        );
      }
      separator = null;
    }
    const pieces = lines.flatMap((line) => line.split(";"));
    const kept = pieces.filter((piece) => !blank(piece));
    const rows = kept.map((piece) => wordsOf(piece, separator));
    const cells = separator === "," ? kept.flatMap((piece) => piece.split(",")) : [];
    if (/\d,\d/.test(text) && cells.some((cell) => wordsOf(cell, null).length > 1)) {
      fail(
        "Commas stand between digits, and spaces between numbers: are those decimal commas? " +
          "Write points, or commas alone between the cells of a row.",
      );
    }
    if (rows.length && rows.every((row) => row.length === 1)) {
      if (full.length > 1 && full.some((line) => line.trim().replace(/;+$/, "").includes(";"))) {
        fail(
          "Semicolons stand between single entries of several lines: do they end rows, or " +
            "separate cells? Write spaces or commas between the cells of a row.",
        );
      }
      const inner = pieces
        .join("\n")
        .replace(/^[\n \r]+|[\n \r]+$/g, "")
        .split("\n");
      if (inner.some(blank)) {
        fail(
          "An empty line stands inside a single column: is that an entry? Write ? for one that " +
            "is not observed, or remove the line.",
        );
      }
    }
    return rows;
  }

  // {values} or {error}, a sentence to stand beside the field.
  function read(text) {
    try {
      const rows = rowsOf(text);
      if (!rows.length) fail("There is no row yet. Write one like 1 2; 3 ?");
      const widths = rows.map((row) => row.length);
      if (new Set(widths).size > 1) {
        fail(
          "All rows must have the same number of entries, but they have " +
            `${mflive.numbers.list(widths.slice(0, 12).map(String))}. ` +
            "Write ? for an entry that is not observed.",
        );
      }
      if (rows.length > LARGEST || widths[0] > LARGEST) {
        fail(
          `This page takes up to ${LARGEST} rows and ${LARGEST} columns, but here are ` +
            `${rows.length} and ${widths[0]}. For more, use mfbook in Python.`,
        );
      }
      const values = rows.map((row, i) =>
        row.map((word, j) => {
          const value = readCell(word);
          if (value === undefined) fail(misread(word, i, j));
          return value;
        }),
      );
      const complaint = objection(values);
      return complaint ? { error: complaint } : { values };
    } catch (error) {
      if (error instanceof Misread) return { error: error.message };
      throw error;
    }
  }

  const misread = (word, i, j) => {
    const shown = word.length > 20 ? `${word.slice(0, 20)}…` : word;
    return (
      `Row ${i + 1}, column ${j + 1}: “${shown}” is neither a number nor a sign such as ` +
      "? or ★ for an entry that is not observed."
    );
  };

  // What keeps a matrix of numbers and nulls from being a problem that can be run.
  function objection(values) {
    const seen = values.flat().filter((value) => value !== null);
    if (!seen.length) {
      return "No entry is observed, so there is nothing to fit. Give at least one number.";
    }
    const sizes = seen.map(Math.abs).filter((size) => size > 0);
    if (sizes.length && (Math.max(...sizes) > 1e12 || Math.max(...sizes) < 1e-12)) {
      return "The largest entry should lie between 10⁻¹² and 10¹². Measure in another unit.";
    }
    return "";
  }

  const cell = (value) => (value === null ? "?" : String(value));
  const write = (values) => values.map((row) => row.map(cell).join(" ")).join("; ");
  const lines = (values) => values.map((row) => row.map(cell).join(" ")).join("\n");

  return { LARGEST, read, readCell, misread, objection, write, lines };
})();
