// Sphinx's search fetches every page that it finds, to quote a sentence of it. Their articles stand
// in one script, which a page that is opened from a file may load, too.

{
  const texts = document.createElement("script");
  const read = new Promise((resolve, reject) => {
    texts.onload = () => resolve(window.mfTexts);
    texts.onerror = reject;
  });
  texts.src = "_static/texts.js";
  document.head.append(texts);

  const fetched = window.fetch;
  window.fetch = async (address, ...rest) => {
    const pages = await read;
    const page = String(address).replace(/^\.\//, "");
    if (!(page in pages)) return fetched(address, ...rest);
    return new Response(`<div role="main">${pages[page]}</div>`);
  };
}
