// The map of a collection. Its page is whole without this script: a picture of a sample, and lists. What rows say is shown as text; addresses are the
// server's.
import { GRID, NOTHING, itemReader, placeFinder, readColors, readPoints, search } from "./data.js";
import { drawing } from "./drawing.js";
import { showLegend } from "./legend.js";
import { showCard, showList } from "./panel.js";
import { followKeys, followPointer } from "./pointing.js";
import { View, nearest, within } from "./view.js";

const FOUND = 100; // results of a search that are lit up
const LISTED = 40; // as MAP_ITEMS of limits.py
const REACH = 14; // pixels around a pointer in which a point is meant
const PAUSE = 60; // milliseconds for which a pointer rests before the server is asked what it points at
const FLIGHT = 240; // milliseconds of a movement that a button or key begins

const byId = (id) => document.getElementById(id);
const count = (many, one = "item") => `${many.toLocaleString("en")} ${one}${many === 1 ? "" : "s"}`;

// Return the coloring by clusters: a legend, and the place in it of each point.
const clusterColoring = ({ clusters, members, points }) => {
  const places = new Map(clusters.slice(0, NOTHING - 1).map(({ cluster }, place) => [cluster, place]));
  const rest = clusters.slice(NOTHING - 1).reduce((sum, { size }) => sum + size, 0);
  const codes = new Uint8Array(points);
  let missing = 0;
  for (let n = 0; n < points; n += 1) {
    codes[n] = members[n] ? (places.get(members[n]) ?? NOTHING - 1) : NOTHING;
    if (!members[n]) missing += 1;
  }
  const named = clusters.slice(0, NOTHING - 1);
  const legend = { kind: "values", values: named.map(({ label }) => label), counts: named.map(({ size }) => size), other: rest, missing };
  return { legend, codes };
};

const start = async () => {
  if (!document.createElement("canvas").getContext("webgl2")) throw new Error("no WebGL 2");
  const page = byId("embeddings-map");
  const [stage, canvas, card, frame] = ["map-stage", "map-canvas", "map-card", "map-frame"].map(byId);
  const found = byId("map-found");
  const form = byId("map-search");
  const { dataset } = page;
  const data = await readPoints(dataset.points);
  const items = itemReader(dataset.items);
  const numbersOf = placeFinder(dataset.ids);
  page.classList.add("map-live"); // the stage has its size now
  const view = new View(data.view, stage.clientWidth, stage.clientHeight);
  const clusterLinks = [...page.querySelectorAll("#map-clusters a[data-cluster]")];
  const linkOf = new Map(clusterLinks.map((link) => [Number(link.dataset.cluster), link.href]));
  const nameOf = new Map(data.clusters.map(({ cluster, label }) => [cluster, label]));
  let coloring = clusterColoring(data);
  let alone = null; // the code whose points are seen alone
  let lit = null; // the numbers of points that a search or a rectangle chose
  let marked = []; // those of them that are above all others
  let pointed = -1;
  let asked = new AbortController();
  let timer = 0;

  const fail = (error) => {
    page.classList.remove("map-live", "map-drawn");
    console.warn("The map is shown as a picture, as this browser cannot draw it:", error);
  };

  const map = drawing({
    stage,
    canvas,
    namesParent: byId("map-names"),
    tools: page.querySelector(".map-tools"),
    data,
    view,
    first: () => {
      page.classList.add("map-drawn");
      requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("embeddings-map-drawn"))); // it is on the screen
    },
    failed: fail,
    moved: () => {
      if (pointed >= 0 && !card.hidden) hideCard();
    },
  });

  const isHidden = (n) => (alone !== null && coloring.codes[n] !== alone) || (lit !== null && !lit.has(n));
  const repaint = () => map.paint(coloring, alone === null && lit === null ? () => false : isHidden);

  // ------------------------------------------------------------ one point

  const pixelOf = (n) => view.pixel(data.places[2 * n], data.places[2 * n + 1]);
  const nearestTo = (pixel, reach = REACH) => nearest(data.places, view.place(...pixel), (reach / view.scale) * GRID, lit || alone !== null ? isHidden : null);
  const mark = (n) => map.mark(marked, n);

  const hideCard = () => {
    card.hidden = true;
    asked.abort();
    clearTimeout(timer);
  };

  const point = (n, aloud = false) => {
    if (n === pointed && (n < 0 || !card.hidden)) return;
    pointed = n;
    hideCard();
    mark(n);
    canvas.classList.toggle("map-pointing", n >= 0);
    if (n < 0) return;
    asked = new AbortController();
    const { signal } = asked;
    timer = setTimeout(async () => {
      try {
        const [item] = await items([n], signal);
        if (!item || signal.aborted) return;
        showCard(card, item, nameOf.get(data.members[n]), pixelOf(n), stage);
        if (aloud) byId("map-told").textContent = item.title;
      } catch (error) {
        if (!signal.aborted) throw error;
      }
    }, PAUSE);
  };

  const open = async (n, apart) => {
    const [item] = await items([n]);
    if (!item) return;
    if (apart) window.open(item.url, "_blank", "noopener");
    else window.location.assign(item.url);
  };

  // ------------------------------------------------------------ many points

  // Let some points stand out; null for none. *above*: whether each has a mark of its own.
  const light = (numbers, above = false) => {
    lit = numbers && new Set(numbers);
    marked = above ? numbers : [];
    pointed = -1;
    hideCard();
    repaint();
    mark(-1);
    byId("map-clear").hidden = lit === null;
    if (lit === null) found.hidden = true;
  };

  const showFound = (words, listed, more) => showList(found, words, listed, more, (n) => mark(n ?? -1));

  // Return the address of the SQL that gives the points of a box of the grid, and no others: a bound is half a step outside.
  const sqlOf = (box) => {
    if (!dataset.sql) return null;
    const url = new URL(dataset.sql, window.location.href);
    ["x_low", "x_high", "y_low", "y_high"].forEach((name, at) => {
      const low = data.low[at < 2 ? 0 : 1];
      url.searchParams.set(name, low + (data.span * (box[at] + (at % 2 ? 0.5 : -0.5))) / GRID);
    });
    return { url: url.href, words: "View and edit as SQL" };
  };

  const choose = async (corner, other) => {
    const [x0, y0] = view.place(Math.min(corner[0], other[0]), Math.max(corner[1], other[1]));
    const [x1, y1] = view.place(Math.max(corner[0], other[0]), Math.min(corner[1], other[1]));
    const box = [Math.ceil(x0), Math.floor(x1), Math.ceil(y0), Math.floor(y1)];
    const numbers = within(data.places, box).filter((n) => alone === null || coloring.codes[n] === alone);
    light(numbers);
    const listed = await items(numbers.slice(0, LISTED));
    const some = numbers.length > LISTED ? `${count(numbers.length)} here, the first ${LISTED}` : `${count(numbers.length)} here`;
    showFound(some, listed, numbers.length && alone === null ? sqlOf(box) : null);
  };

  const find = async () => {
    const q = form.elements.q.value.trim();
    if (!q) return light(null);
    asked.abort();
    asked = new AbortController();
    const { signal } = asked;
    form.ariaBusy = "true";
    try {
      const { results, weak } = await search(form, FOUND, signal);
      const near = results.filter((result) => weak || !result.weak);
      const numbers = await numbersOf(near.map(({ id }) => id));
      const listed = near.map((result, at) => ({ ...result, at: numbers[at] })).filter(({ at }) => at !== undefined);
      light(listed.map(({ at }) => at), true);
      const url = `${form.action}?${new URLSearchParams({ q })}`;
      const words = weak ? `Nothing is close to “${q}”` : `${count(listed.length, "match").replace("matchs", "matches")} for “${q}”`;
      showFound(words, listed.slice(0, LISTED), { url, words: "As search results" });
    } catch (error) {
      if (!signal.aborted) form.submit(); // and that page says why
    } finally {
      form.ariaBusy = "false";
    }
  };

  // ------------------------------------------------------------ moving

  let flying = 0;
  const fly = (change) => {
    cancelAnimationFrame(flying);
    const from = { x: view.x, y: view.y, zoom: view.zoom };
    change();
    const to = { x: view.x, y: view.y, zoom: view.zoom };
    if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) return map.look();
    const began = performance.now();
    const frameOf = (now) => {
      const part = Math.min((now - began) / FLIGHT, 1);
      const eased = 1 - (1 - part) ** 3;
      for (const name of ["x", "y", "zoom"]) view[name] = from[name] + (to[name] - from[name]) * eased;
      map.look();
      if (part < 1) flying = requestAnimationFrame(frameOf);
    };
    flying = requestAnimationFrame(frameOf);
  };
  const middle = () => [view.width / 2, view.height / 2];
  const everything = Math.max(stage.clientWidth, stage.clientHeight);
  const pointToMiddle = () => point(nearestTo(middle(), everything), true);
  const byKey = (change) => {
    change();
    map.look();
    pointToMiddle();
  };

  const selecting = byId("map-select");
  followPointer(stage, canvas, frame, () => selecting.ariaPressed === "true", {
    point: (pixel, kind) => kind !== "touch" && point(pixel ? nearestTo(pixel) : -1),
    open: (pixel, kind, event) => {
      const n = nearestTo(pixel, kind === "touch" ? 2 * REACH : REACH);
      if (n < 0) return point(-1);
      if (kind === "touch" && n !== pointed) return point(n);
      return open(n, event.ctrlKey || event.metaKey);
    },
    chosen: choose,
  });
  followKeys(canvas, {
    move: (right, up) => byKey(() => view.moved(right, up)),
    zoom: (steps) => byKey(() => view.zoomed(steps)),
    whole: () => byKey(() => view.whole()),
    open: () => pointed >= 0 && open(pointed),
    list: () => choose([0, 0], [view.width, view.height]),
    leave: () => {
      point(-1);
      light(null);
    },
  });
  canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && pointToMiddle());
  canvas.addEventListener("blur", () => point(-1));
  card.addEventListener("pointerdown", (event) => event.stopPropagation());

  // ------------------------------------------------------------ controls

  const showColoring = (title, links) => {
    alone = null;
    showLegend(byId("map-legend"), title, coloring.legend, links, (code) => {
      alone = code;
      point(-1);
      repaint();
    });
    repaint();
  };
  const showClusters = () => {
    coloring = clusterColoring(data);
    const links = data.clusters.map(({ cluster }) => linkOf.get(cluster));
    showColoring(data.clusters.length ? "Clusters" : "Items", links);
  };
  byId("map-color").addEventListener("change", async ({ target }) => {
    const column = target.value;
    if (!column) return showClusters();
    const read = await readColors(dataset.colors, column);
    if (target.value !== column) return;
    coloring = read;
    showColoring(column, null);
  });
  const buttons = {
    "map-nearer": () => fly(() => view.zoomed(1)),
    "map-farther": () => fly(() => view.zoomed(-1)),
    "map-whole": () => fly(() => view.whole()),
    "map-select": () => {
      selecting.ariaPressed = String(selecting.ariaPressed !== "true");
      canvas.classList.toggle("map-selecting", selecting.ariaPressed === "true");
    },
    "map-list": () => choose([0, 0], [view.width, view.height]),
    "map-clear": () => {
      form.elements.q.value = "";
      light(null);
    },
  };
  for (const [id, act] of Object.entries(buttons)) byId(id).addEventListener("click", act);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    find();
  });

  showClusters();
  if (form.elements.q.value) find();
};

start().catch((error) => {
  byId("embeddings-map").classList.remove("map-live", "map-drawn");
  console.warn("The map is shown as a picture, as it could not be read:", error);
});
