"use strict";

// The engine's side of the conversation: {id, request} comes, {id, answer} or {id, error} goes. A
// request for something else than a run names it as its `task`.
onmessage = ({ data: { id, request } }) => {
  const tasks = {
    flow: mflive.answer,
    minNuclear: ({ values }) => mflive.minNuclear(values),
    minRank: ({ values }) => mflive.minRank(values),
    glrl: mflive.glrl,
    deep: mflive.deep,
  };
  try {
    postMessage({ id, answer: tasks[request.task ?? "flow"](request) });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
};
