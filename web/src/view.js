// Where one looks: the middle of what is seen and its magnification, and the way from places on the map to pixels and back.
import { GRID } from "./data.js";

const MOST_ZOOM = 7; // steps of a coordinate are a pixel or two then
const FARTHEST = 17; // float32 has no finer places
const ROOM = 1.12;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// *box*: x and y of the grid, low and high, that the first look holds.
export class View {
  constructor(box, width, height) {
    this.box = box.map((value) => value / GRID);
    this.resize(width, height);
    this.whole();
  }

  resize(width, height) {
    Object.assign(this, { width, height });
    const [x0, y0, x1, y1] = this.box;
    this.fit = Math.log2(Math.min(width / (ROOM * (x1 - x0) || 1), height / (ROOM * (y1 - y0) || 1)));
  }

  whole() {
    const [x0, y0, x1, y1] = this.box;
    Object.assign(this, { x: (x0 + x1) / 2, y: (y0 + y1) / 2, zoom: this.fit });
  }

  get scale() {
    return 2 ** this.zoom;
  }

  // How far one is in, from 0, where all is seen.
  get depth() {
    return this.zoom - this.fit;
  }

  get state() {
    return { target: [this.x, this.y, 0], zoom: this.zoom };
  }

  set state({ target, zoom }) {
    this.zoom = clamp(Array.isArray(zoom) ? zoom[0] : zoom, this.fit - 1, Math.min(this.fit + MOST_ZOOM, FARTHEST));
    this.x = clamp(target[0], 0, 1);
    this.y = clamp(target[1], 0, 1);
  }

  moved(right, up) {
    this.state = { target: [this.x + right / this.scale, this.y + up / this.scale], zoom: this.zoom };
  }

  zoomed(steps) {
    this.state = { target: [this.x, this.y], zoom: this.zoom + steps };
  }

  // Return the pixel of a place, x and y from 0 to GRID.
  pixel(x, y) {
    return [this.width / 2 + (x / GRID - this.x) * this.scale, this.height / 2 - (y / GRID - this.y) * this.scale];
  }

  // Return the place on the grid, with its fractions, of a pixel.
  place(left, top) {
    return [(this.x + (left - this.width / 2) / this.scale) * GRID, (this.y - (top - this.height / 2) / this.scale) * GRID];
  }
}

// Return the number of the point nearest to a place, within a distance on the grid; -1 for none. To look at all takes less than a millisecond
// for 200,000 points.
export const nearest = (places, [x, y], distance, hidden) => {
  let found = -1;
  let best = distance * distance;
  for (let n = 0, at = 0; at < places.length; n += 1, at += 2) {
    const right = places[at] - x;
    const up = places[at + 1] - y;
    const far = right * right + up * up;
    if (far <= best && !hidden?.(n)) {
      best = far;
      found = n;
    }
  }
  return found;
};

// Return the numbers of the points in a box of the grid, low and high of x and y, in their order.
export const within = (places, [x0, x1, y0, y1]) => {
  const found = [];
  for (let at = 0; at < places.length; at += 2) {
    if (places[at] >= x0 && places[at] <= x1 && places[at + 1] >= y0 && places[at + 1] <= y1) found.push(at / 2);
  }
  return found;
};
