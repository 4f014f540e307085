"use strict";
// What a reader moves: sliders, buttons, choices, numbers, a grid of entries. Each has a label, and
// each is a native control, so that the keyboard and a screen reader know it.

mflive.controls = (() => {
  const { el, unique } = mflive.dom;

  // A slider over a list of stops, so that every place of it is a value one may quote.
  function slider({ label, stops, at, show, say = show, onmove }) {
    const id = unique("slider");
    const shown = el("output", { class: "mfx-value", for: id });
    const input = el("input", { type: "range", id, min: 0, max: stops.length - 1, step: 1 });
    const nearest = (value) =>
      stops.reduce(
        (best, s, k) => (Math.abs(s - value) < Math.abs(stops[best] - value) ? k : best),
        0,
      );
    const tell = () => {
      const value = stops[Number(input.value)];
      mflive.dom.tell(shown, show(value));
      input.setAttribute("aria-valuetext", say(value));
    };
    input.value = nearest(at);
    input.addEventListener("input", () => {
      tell();
      onmove(stops[Number(input.value)]);
    });
    tell();
    return {
      node: el("div", { class: "mfx-slider" }, el("label", { for: id }, label), " ", shown, input),
      input,
      set: (value) => {
        input.value = nearest(value);
        tell();
      },
    };
  }

  // The size of the start, over a list of exponents.
  const scale = ({ stops, at, onmove }) =>
    slider({
      label: "Size of the start, α =",
      stops,
      at,
      show: mflive.numbers.power,
      say: mflive.numbers.spoken,
      onmove,
    });

  const button = (words, onclick, attributes = {}) =>
    el("button", { type: "button", class: "mfx-button", onclick, ...attributes }, words);

  function number({ label, value, min, max, onchange }) {
    const id = unique("number");
    const input = el("input", {
      type: "number",
      id,
      min,
      max,
      step: 1,
      value,
      class: "mfx-number",
    });
    const read = () => {
      const now = Math.round(Number(input.value));
      return input.value.trim() === "" || !(now >= min && now <= max) ? null : now;
    };
    input.addEventListener("input", () => {
      const now = read();
      input.setAttribute("aria-invalid", String(now === null));
      if (now !== null && onchange) onchange(now);
    });
    return {
      node: el("div", { class: "mfx-field" }, el("label", { for: id }, label), input),
      read,
      set: (now) => {
        input.value = now;
        input.setAttribute("aria-invalid", "false");
      },
    };
  }

  // One of several, as radio buttons in a group that has a name.
  function choice({ label, options, at, onchoose }) {
    const name = unique("choice");
    const inputs = options.map(([value]) =>
      el("input", {
        type: "radio",
        name,
        id: unique("option"),
        checked: value === at,
        onchange: () => onchoose(value),
      }),
    );
    return {
      node: el(
        "fieldset",
        { class: "mfx-choice" },
        el("legend", {}, label),
        options.map(([, words], k) =>
          el("label", { for: inputs[k].id, class: "mfx-option" }, inputs[k], el("span", {}, words)),
        ),
      ),
      set: (value) => options.forEach(([one], k) => (inputs[k].checked = one === value)),
    };
  }

  // A matrix in which every entry can be typed. Arrows go from cell to cell, and what is pasted
  // with more than one entry goes to onpaste.
  function grid({ values, oninput, onpaste }) {
    const box = el("div", { class: "mfx-grid", role: "group", "aria-label": "The entries" });
    let cells = [];

    function move(event, i, j) {
      const { selectionStart: from, selectionEnd: to, value } = event.target;
      const step = {
        ArrowUp: [-1, 0],
        ArrowDown: [1, 0],
        ArrowLeft: from === 0 && to === 0 ? [0, -1] : null,
        ArrowRight: from === value.length ? [0, 1] : null,
        Enter: [1, 0],
      }[event.key];
      const next = step && cells[i + step[0]]?.[j + step[1]];
      if (next) {
        event.preventDefault();
        next.focus();
        next.select();
      }
    }

    const cell = (value, i, j) =>
      el("input", {
        type: "text",
        class: "mfx-entry",
        size: 1,
        inputmode: "text",
        autocomplete: "off",
        spellcheck: "false",
        "aria-label": `row ${i + 1}, column ${j + 1}`,
        value: value === null ? "" : String(value),
        placeholder: "★",
        oninput: () => read(),
        onkeydown: (event) => move(event, i, j),
        onpaste: (event) => {
          const text = event.clipboardData.getData("text");
          if (/[\s,;[\]]/.test(text.trim())) {
            event.preventDefault();
            onpaste(text);
          }
        },
      });

    function read() {
      let wrong = "";
      const now = cells.map((row, i) =>
        row.map((input, j) => {
          const value = mflive.text.readCell(input.value);
          input.setAttribute("aria-invalid", String(value === undefined));
          if (value === undefined) wrong ||= mflive.text.misread(input.value.trim(), i, j);
          return value ?? null;
        }),
      );
      oninput(now, wrong);
    }

    function set(now) {
      const same = cells.length === now.length && cells[0].length === now[0].length;
      if (!same) {
        cells = now.map((row, i) => row.map((value, j) => cell(value, i, j)));
        box.style.setProperty("--columns", now[0].length);
        box.replaceChildren(...cells.flat());
      }
      now.forEach((row, i) =>
        row.forEach((value, j) => {
          cells[i][j].value = value === null ? "" : String(value);
          cells[i][j].setAttribute("aria-invalid", "false");
        }),
      );
    }

    // A colour for each component, at the edge of its entries.
    const colour = (of) =>
      cells.forEach((row, i) =>
        row.forEach((input, j) => {
          const hue = of(i, j);
          if (hue) input.style.setProperty("--hue", hue);
          else input.style.removeProperty("--hue");
        }),
      );

    set(values);
    return { node: box, set, colour };
  }

  // A matrix as text. What is read goes to onread, with a complaint where it makes no sense; refuse
  // says one beside the field.
  function written({ label, values, onread }) {
    const wrong = el("p", { id: unique("wrong"), class: "mfx-wrong", hidden: true });
    const area = el("textarea", {
      id: unique("text"),
      rows: 4,
      class: "mfx-text",
      spellcheck: "false",
      "aria-describedby": wrong.id,
    });
    let last = values;
    const set = (now) => {
      last = now;
      area.value = mflive.text.lines(now);
    };
    const read = (text) => {
      area.value = text;
      const found = mflive.text.read(text);
      if (!found.error) last = found.values;
      onread(found.values, found.error);
    };
    area.addEventListener("input", () => read(area.value));
    area.addEventListener("change", () => wrong.hidden && set(last));
    set(values);
    return {
      node: el("div", {}, el("label", { for: area.id }, label), area, wrong),
      set,
      read,
      refuse: (words) => {
        wrong.textContent = words;
        wrong.hidden = !words;
        area.setAttribute("aria-invalid", String(Boolean(words)));
      },
    };
  }

  // The field of a seed, and whether a link names one.
  const LARGEST_SEED = 999999;
  const seed = ({ value, onchange }) =>
    number({ label: "seed", value, min: 0, max: LARGEST_SEED, onchange });
  const isSeed = (value) => Number.isInteger(value) && value >= 0 && value <= LARGEST_SEED;

  return {
    slider,
    scale,
    button,
    number,
    choice,
    grid,
    written,
    seed,
    isSeed,
    LARGEST_SEED,
  };
})();
