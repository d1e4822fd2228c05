// The finder with a script: a picture is dropped or pasted, what is picked leaves the page where it is, arrows go from picture to
// picture. Without it forms and links do all but that. Nothing here makes markup: what is shown is a part of the page that the server sent.
(() => {
  "use strict";
  const finder = document.getElementById("finder");
  const told = document.getElementById("finder-told");
  if (!finder || !told || !window.fetch || !window.DOMParser) return;

  const LARGEST = 20_000_000; // bytes that the server reads
  const SHRUNK = 300_000; // bytes from which on a picture is made smaller first
  const SIDE = 1024; // pixels of its longer side then: more than models look at
  let latest = 0;

  // *heard*: said to those who do not see what happened, and of no use to others.
  const tell = (words, heard = false) => {
    told.classList.toggle("embeddings-sr", heard);
    told.textContent = words;
  };

  const parsed = (text) => new DOMParser().parseFromString(text, "text/html");

  const ready = () => finder.querySelectorAll(".finder-hint").forEach((hint) => { hint.hidden = false; });

  const show = (page) => {
    finder.replaceChildren(...page.getElementById("finder").childNodes);
    document.title = page.title || document.title;
    ready();
    const error = finder.querySelector("[role=alert]");
    const count = finder.querySelectorAll("#finder-grid > li").length;
    tell(error ? "" : `${count} ${count === 1 ? "picture" : "pictures"}`, true);
    finder.focus({ preventScroll: true });
    if (error) error.scrollIntoView({ block: "nearest" });
  };

  // Returns the page that a request gives, or null where another request was made meanwhile.
  const get = async (address, options) => {
    const number = ++latest;
    finder.ariaBusy = "true";
    try {
      const answer = await fetch(address, options);
      const page = parsed(await answer.text());
      if (number !== latest) return null;
      if (!page.getElementById("finder")) throw new Error(`the server answered ${answer.status}`);
      return page;
    } finally {
      if (number === latest) finder.ariaBusy = "false";
    }
  };

  const visit = async (address, then) => {
    try {
      const page = await get(address);
      if (page) {
        then();
        show(page);
      }
    } catch {
      location.assign(address);
    }
  };

  const smaller = async (file) => {
    try {
      const image = await createImageBitmap(file);
      const scale = Math.min(1, SIDE / Math.max(image.width, image.height));
      const canvas = document.createElement("canvas");
      canvas.width = Math.max(1, Math.round(image.width * scale));
      canvas.height = Math.max(1, Math.round(image.height * scale));
      const pen = canvas.getContext("2d");
      pen.fillStyle = "white";
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(image, 0, 0, canvas.width, canvas.height);
      return (await new Promise((done) => { canvas.toBlob(done, "image/jpeg", 0.92); })) || file;
    } catch {
      return file; // the server says what is wrong with it
    }
  };

  const send = async (file) => {
    const form = document.getElementById("finder-own");
    const number = ++latest;
    tell("Looking at your picture …");
    const picture = file.size > SHRUNK ? await smaller(file) : file;
    if (number !== latest) return;
    if (picture.size > LARGEST) {
      tell(`This file has ${picture.size.toLocaleString("en")} bytes; ${LARGEST.toLocaleString("en")} are the most.`);
      return;
    }
    const body = new FormData(form);
    body.set("picture", picture, "picture");
    try {
      const page = await get(form.action, { method: "POST", body, headers: { Accept: "text/html" } });
      if (!page) return;
      const kept = `<title>${page.querySelector("title").innerHTML}</title>${page.getElementById("finder").outerHTML}`;
      if (!page.querySelector("#finder [role=alert]")) history.pushState({ kept }, "", form.action);
      show(page);
      window.scrollTo({ top: 0 });
    } catch (error) {
      tell(`Your picture was not looked at: ${error.message}.`);
    }
  };

  const pictureOf = (transfer) => [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/"));

  const brings = (event) => event.dataTransfer?.types.includes("Files");

  document.addEventListener("dragover", (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    document.body.classList.add("finder-dropping");
  });

  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("finder-dropping");
  });

  document.addEventListener("drop", (event) => {
    document.body.classList.remove("finder-dropping");
    if (!brings(event)) return;
    event.preventDefault();
    const file = pictureOf(event.dataTransfer);
    if (file) send(file);
    else tell("That was no picture; JPEG, PNG, WebP and GIF are looked at.");
  });

  document.addEventListener("paste", (event) => {
    const file = pictureOf(event.clipboardData);
    if (!file) return;
    event.preventDefault();
    send(file);
  });

  finder.addEventListener("change", (event) => {
    if (event.target.id === "finder-file" && event.target.files.length) send(event.target.files[0]);
  });

  finder.addEventListener("submit", (event) => {
    if (event.target.id !== "finder-own") return;
    const file = event.target.elements.picture.files[0];
    event.preventDefault();
    if (file) send(file);
    else event.target.elements.picture.click();
  });

  finder.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-stay]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    visit(link.href, () => history.pushState({}, "", link.href));
  });

  const MOVES = {
    ArrowLeft: () => -1,
    ArrowRight: () => 1,
    ArrowUp: (columns) => -columns,
    ArrowDown: (columns) => columns,
  };

  finder.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    const here = event.target.closest(".finder-similar");
    if (!move || !here || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = [...here.closest(".finder-grid").querySelectorAll(".finder-similar")];
    const top = all[0].getBoundingClientRect().top;
    const columns = all.filter((link) => Math.abs(link.getBoundingClientRect().top - top) < 1).length;
    const next = all[all.indexOf(here) + move(columns)];
    event.preventDefault();
    next?.focus();
  });

  const restore = (state) => {
    if (!state?.kept) return false;
    show(parsed(state.kept));
    return true;
  };

  window.addEventListener("popstate", (event) => {
    latest += 1;
    finder.ariaBusy = "false";
    if (!restore(event.state)) visit(location.href, () => {});
  });

  ready();
  restore(history.state);
})();
