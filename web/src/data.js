// What the server sends: the points, what a column says of each, and what stands where. Everything is fetched once.

// How many steps a coordinate has; as in mapping.py.
export const GRID = 65535;

// The code of a point that has no value.
export const NOTHING = 255;

const read = async (url, options) => {
  const response = await fetch(url, { credentials: "same-origin", ...options });
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response;
};

export const readJson = async (url, options) => (await read(url, options)).json();

// Return the JSON at the head of a response and where the arrays after it begin.
const unpack = (buffer) => {
  const length = new DataView(buffer).getUint32(0, true);
  return [JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length))), 4 + length];
};

// Return the head of the map with `places`, x and y of each point, and `members`, the number of the cluster of each.
export const readPoints = async (url) => {
  const buffer = await (await read(url)).arrayBuffer();
  performance.mark("embeddings-map-data");
  const [head, start] = unpack(buffer);
  return {
    ...head,
    places: new Uint16Array(buffer, start, 2 * head.points),
    members: new Uint16Array(buffer, start + 4 * head.points, head.points),
  };
};

// Return the legend of a column, and the code of each point.
export const readColors = async (url, column) => {
  const buffer = await (await read(`${url}?${new URLSearchParams({ column })}`)).arrayBuffer();
  const [legend, start] = unpack(buffer);
  return { legend, codes: new Uint8Array(buffer, start) };
};

// Return a function that gives what some points are: title, excerpt and addresses, by their numbers.
export const itemReader = (url) => {
  const known = new Map();
  return async (numbers, signal) => {
    const wanted = numbers.filter((number) => !known.has(number));
    if (wanted.length) {
      const { items } = await readJson(`${url}?at=${wanted.join(",")}`, { signal });
      for (const item of items) known.set(item.at, item);
    }
    return numbers.map((number) => known.get(number)).filter(Boolean);
  };
};

// Return a function that gives the numbers of the points with some ids; all ids are fetched when it is first asked.
export const placeFinder = (url) => {
  let numbers = null;
  return async (ids) => {
    numbers ??= readJson(url).then((found) => new Map(found.ids.map((id, number) => [id, number])));
    const known = await numbers;
    return ids.map((id) => known.get(id));
  };
};

// Return what a search finds. Where texts go to another machine it is first posted, as the page's form without a script would be.
export const search = async (form, count, signal) => {
  const q = form.elements.q.value;
  if (form.method === "post") {
    await read(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "follow", signal });
  }
  return readJson(`${form.action}.json?${new URLSearchParams({ q, k: count })}`, { signal });
};
