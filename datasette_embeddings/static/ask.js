// The answer of the chat model as it is written. Without this script the form is sent and the whole answer comes as a page.
// What comes is shown as text: nothing here makes markup of it, and links lead only to the rows that the server names.
(() => {
  "use strict";
  const form = document.getElementById("embeddings-ask");
  const reply = document.getElementById("embeddings-reply");
  const sources = document.getElementById("embeddings-sources");
  const template = document.getElementById("embeddings-excerpt");
  if (!form || !reply || !sources || !template || !window.fetch || !window.ReadableStream) return;
  let running = null;

  const make = (parent, tag, text, className) => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (className) element.className = className;
    parent.append(element);
    return element;
  };

  const nameOf = (excerpt) => excerpt.place || excerpt.id;

  const showExcerpts = (excerpts) => {
    const list = sources.querySelector("ol");
    list.replaceChildren();
    sources.querySelector("h2").hidden = excerpts.length === 0;
    for (const excerpt of excerpts) {
      const item = template.content.cloneNode(true);
      item.querySelector("h3 span").textContent = `[${excerpt.number}]`;
      item.querySelector("a").textContent = nameOf(excerpt);
      item.querySelector("a").href = excerpt.url;
      item.querySelector("summary").textContent = `Excerpt ${excerpt.number}, similarity ${excerpt.score.toFixed(3)}`;
      item.querySelector("details p").textContent = excerpt.text;
      list.append(item);
    }
  };

  const showSentence = (answer, sentence, excerpts) => {
    answer.append(sentence.gap);
    const names = [!sentence.supported && "embeddings-unsupported", /^(```|~~~)/.test(sentence.text) && "embeddings-code"];
    make(answer, "span", sentence.text, names.filter(Boolean).join(" "));
    if (!sentence.supported) make(answer, "sup", " no source", "embeddings-note");
    for (const number of sentence.citations) {
      const link = make(make(answer, "sup", ""), "a", `[${number}]`);
      link.href = excerpts[number - 1].url;
      link.ariaLabel = `[${number}] ${nameOf(excerpts[number - 1])}`;
    }
  };

  const closing = (done, unsupported) => {
    if (!done.found && done.chat_model) return `${done.chat_model} found no answer in the excerpts below.`;
    if (!done.found) return "Nothing comes near to that, by meaning or by words.";
    if (!done.chat_model) return "Quotations: the sentences that come nearest to the question, word for word.";
    const parts = [`Written by ${done.chat_model}. Each number leads to a row that it was given; whether that row says what the sentence says is not checked.`];
    if (unsupported) parts.push("“No source” marks a sentence that names no row.");
    if (done.removed_citations) parts.push(`Numbers removed, as they name no excerpt: ${done.removed_citations}.`);
    return parts.join(" ");
  };

  const read = async (response) => {
    const body = response.body.getReader(), decoder = new TextDecoder();
    reply.replaceChildren();
    const answer = make(reply, "div", "", "embeddings-answer");
    let excerpts = [], rest = "", unsupported = 0, done = null;
    for (let part = await body.read(); !part.done; part = await body.read()) {
      const whole = (rest + decoder.decode(part.value, { stream: true })).split("\n");
      rest = whole.pop();
      for (const line of whole) {
        const event = JSON.parse(line);
        if (event.excerpts) showExcerpts(excerpts = event.excerpts);
        if (event.sentence) {
          unsupported += event.sentence.supported ? 0 : 1;
          showSentence(answer, event.sentence, excerpts);
        }
        if (event.done) done = event.done;
      }
    }
    const notice = done ? done.notice : "The answer is not whole: the connection to this site was cut.";
    if (notice) make(reply, "p", notice, "message-warning");
    if (done) make(reply, "p", closing(done, unsupported), "embeddings-fine");
  };

  form.addEventListener("submit", async (event) => {
    if (!form.q.value.trim()) return;
    event.preventDefault();
    if (running) running.abort();
    const own = (running = new AbortController());
    reply.replaceChildren();
    make(reply, "p", "Reading …", "embeddings-status");
    let response = null;
    try {
      response = await fetch(form.action, {
        method: "POST",
        headers: { Accept: "application/x-ndjson" },
        body: new URLSearchParams(new FormData(form)),
        signal: own.signal,
      });
      if (!response.ok) return form.submit(); // and the page says why
      await read(response);
    } catch (error) {
      if (own.signal.aborted) return;
      if (!response) return form.submit();
      make(reply, "p", "The answer is not whole: the connection to this site was cut.", "message-warning");
    }
  });
})();
