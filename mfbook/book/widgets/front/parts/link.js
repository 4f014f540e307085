"use strict";
// A state as the fragment of an address, and back: #explorer=matrix&cells=1 2; 3 ?&scale=-100

mflive.link = (() => {
  const PREFIX = "#explorer=";

  function fragment(kind, state) {
    const words = new URLSearchParams({ explorer: kind });
    for (const [name, value] of Object.entries(state)) {
      if (value === null || value === undefined) continue;
      words.set(name, name === "cells" ? mflive.text.write(value) : String(value));
    }
    return `#${words}`;
  }

  // {} where the address says nothing of this explorer, {error} where it makes no sense.
  function read(kind, given) {
    if (!location.hash.startsWith(PREFIX)) return {};
    const words = new URLSearchParams(location.hash.slice(1));
    if (words.get("explorer") !== kind) return {};
    const state = {};
    for (const [name, value] of words) {
      if (name === "explorer" || !(name in given)) continue;
      if (name === "cells") {
        const { values, error } = mflive.text.read(value.slice(0, 4000));
        if (error) return { error: `The link holds no matrix. ${error}` };
        state.cells = values;
      } else if (typeof given[name] === "number") {
        if (value.trim() === "" || !Number.isFinite(Number(value))) {
          return { error: `The link holds no number for “${name}”.` };
        }
        state[name] = Number(value);
      } else {
        state[name] = value.slice(0, 200);
      }
    }
    return { state };
  }

  // To the clipboard where the browser allows it; false where it does not.
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return false;
    }
  }

  return { fragment, read, copy };
})();
