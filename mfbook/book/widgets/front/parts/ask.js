"use strict";
// Who computes: a worker in the page, or the Python engine behind a notebook. Both get
// {id, request} and send {id, answer} or {id, error}, so that no explorer knows which one it was.

mflive.ask = (() => {
  function exchange(send) {
    const waiting = new Map();
    let count = 0;
    return {
      ask: (request) =>
        new Promise((resolve, reject) => {
          count += 1;
          waiting.set(count, { resolve, reject });
          send({ id: count, request });
        }),
      hear: ({ id, answer, error }) => {
        const one = waiting.get(id);
        waiting.delete(id);
        if (error !== undefined) one?.reject(new Error(error));
        else one?.resolve(answer);
      },
      fail: (words) => {
        waiting.forEach((one) => one.reject(new Error(words)));
        waiting.clear();
      },
    };
  }

  function inThisPage() {
    let worker = null;
    const line = exchange((message) => {
      worker ??= start();
      worker.postMessage(message);
    });
    function start() {
      const source = `globalThis.mflive = {};\n(${mflive.engine})();\n(${mflive.serve})();`;
      const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      const made = new Worker(address);
      made.onmessage = (event) => line.hear(event.data);
      made.onerror = () => line.fail("The browser did not let this page compute.");
      return made;
    }
    return line.ask;
  }

  function inPython(model) {
    const line = exchange((message) => model.send(message));
    model.on("msg:custom", (message) => line.hear(message));
    return line.ask;
  }

  // One question at a time; of those that come meanwhile only the last is asked, and an answer
  // that has been overtaken is null.
  function latest(ask) {
    let running = false;
    let next = null;
    let last = 0;
    async function turn() {
      running = true;
      while (next) {
        const { request, mine, resolve, reject } = next;
        next = null;
        try {
          const answer = await ask(request);
          resolve(mine === last ? answer : null);
        } catch (error) {
          if (mine === last) reject(error);
          else resolve(null);
        }
      }
      running = false;
    }
    return (request) =>
      new Promise((resolve, reject) => {
        last += 1;
        next?.resolve(null);
        next = { request, mine: last, resolve, reject };
        if (!running) turn();
      });
  }

  return { inThisPage, inPython, latest };
})();
