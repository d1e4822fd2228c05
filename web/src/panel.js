// What is said of points beside the map: a card for the one that is pointed at, and a list of those that were found or chosen.

const make = (parent, tag, text, className) => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (className) element.className = className;
  parent.append(element);
  return element;
};

// Show an item in the card, beside a pixel of the stage.
export const showCard = (card, item, note, [left, top], stage) => {
  card.replaceChildren();
  const title = make(card, "a", item.title, "map-title");
  title.href = item.url;
  if (note) make(card, "p", note, "map-note");
  if (item.excerpt) make(card, "p", item.excerpt, "map-excerpt");
  card.hidden = false;
  const x = left + card.offsetWidth + 24 > stage.clientWidth ? left - card.offsetWidth - 14 : left + 14;
  const y = top + card.offsetHeight + 24 > stage.clientHeight ? top - card.offsetHeight - 14 : top + 14;
  const most = [stage.clientWidth - card.offsetWidth - 8, stage.clientHeight - card.offsetHeight - 8];
  card.style.transform = `translate(${Math.max(8, Math.min(x, most[0]))}px, ${Math.max(8, Math.min(y, most[1]))}px)`;
};

// List items in *section*, under words that say what they are. *more*: an address and words for all of them; *pointed*: called with the number of the
// item that somebody points at, or null.
export const showList = (section, words, items, more, pointed) => {
  section.querySelector("h2").textContent = words;
  const list = section.querySelector("ol");
  list.replaceChildren();
  for (const item of items) {
    const line = make(list, "li");
    const link = make(line, "a", item.title);
    link.href = item.url;
    for (const begin of ["pointerenter", "focus"]) link.addEventListener(begin, () => pointed(item.at));
    for (const end of ["pointerleave", "blur"]) link.addEventListener(end, () => pointed(null));
  }
  const after = section.querySelector(".embeddings-links");
  after.replaceChildren();
  if (more) make(after, "a", more.words).href = more.url;
  section.hidden = false;
};
