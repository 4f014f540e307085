"use strict";

// What a worker does: one question in, one answer out.
globalThis.onmessage = (() => {
  const answers = {
    flow: mflive.answer,
    rivals: ({ values }) => ({ nuclear: mflive.minNuclear(values), rank: mflive.minRank(values) }),
  };
  return ({ data: { id, request } }) => {
    try {
      postMessage({ id, answer: answers[request.what ?? "flow"](request) });
    } catch (error) {
      postMessage({ id, error: error.message });
    }
  };
})();
