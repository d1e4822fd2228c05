// The points on the screen: deck.gl draws them, names of clusters are elements above.
import { Deck, OrthographicView } from "@deck.gl/core";
import { paintPoints, palette } from "./legend.js";
import { nameLayer } from "./names.js";
import { Points } from "./points.js";

const SHARPEST = 2; // pixels of the screen for one of the page that are drawn; more are not seen
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// What deck.gl is told of every canvas of points here. Points are not tested for depth, and are smooth without the antialiasing of edges.
export const DEVICE = { webgl: { antialias: false, depth: false, stencil: false } };
const FLAT = { depthWriteEnabled: false, depthCompare: "always" };

// Many points are small and clear, few are large; both grow as one comes nearer.
const sizeOf = (count, view) => clamp(Math.sqrt((view.width * view.height * 0.25) / count), 2, 10) * 2 ** clamp(0.4 * view.depth, -0.4, 2.2);
const strengthOf = (count, view) => clamp(1.15 - 0.16 * Math.log10(count) + 0.09 * view.depth, 0.3, 0.95);

// *first*: called when the points are there to be seen; *failed*, when they cannot be drawn; *moved*, after each change of the view.
export const drawing = ({ stage, canvas, namesParent, tools, data, view, first, failed, moved }) => {
  const paint = new Uint8Array(4 * data.points);
  const placesOfAll = { value: data.places, size: 2, normalized: true };
  const names = nameLayer(namesParent, data.clusters, tools);
  let colors = palette(stage);
  let shown = null; // what the colours are by
  let isDim = () => false;
  let all = null;
  let marks = null;
  let marked = [];
  let pointed = null;
  let drawn = false;

  const layers = () => {
    const { ground, ink } = colors;
    const edge = (color, strength) => [...color.map((value) => value / 255), strength];
    const size = sizeOf(data.points, view);
    const layer = (id, shownData, more, strength, edgeColor) =>
      shownData && new Points({ id, data: shownData, size: size + more, strength, edge: edgeColor, parameters: FLAT });
    return [
      layer("all", all, 0, strengthOf(data.points, view), edge(ground, 0)),
      layer("marks", marks, 7, 1, edge(ink, 1)),
      layer("pointed", pointed, 14, 1, edge(ink, 1)),
    ];
  };

  const deck = new Deck({
    parent: canvas,
    views: new OrthographicView({ flipY: false }),
    viewState: view.state,
    controller: { keyboard: false, doubleClickZoom: true, inertia: 250, scrollZoom: { speed: 0.015, smooth: false } },
    useDevicePixels: Math.min(window.devicePixelRatio, SHARPEST),
    deviceProps: DEVICE,
    getCursor: ({ isDragging }) => (isDragging ? "grabbing" : ""), // else the stylesheet says
    onLoad: () => {
      canvas.querySelector("canvas").tabIndex = -1; // its parent is what keys go to
    },
    layers: [],
    onViewStateChange: ({ viewState }) => {
      view.state = viewState;
      look();
    },
    onResize: () => {
      view.resize(stage.clientWidth, stage.clientHeight);
      names.measure();
      look();
    },
    onError: (error) => {
      if (!drawn) failed(error);
    },
    onAfterRender: () => {
      if (drawn || !all) return;
      drawn = true;
      first();
    },
  });

  const look = () => {
    deck.setProps({ viewState: view.state, layers: layers() });
    names.place(view);
    moved();
  };

  const repaint = () => {
    paintPoints(paint, shown, colors, isDim);
    all = { length: data.points, attributes: { places: placesOfAll, colors: { value: paint, size: 4, normalized: true } } };
    mark(marked);
  };

  // Return some points by themselves, as deck.gl takes them.
  const some = (numbers) => {
    const place = new Uint16Array(2 * numbers.length);
    const color = new Uint8Array(4 * numbers.length).fill(255);
    numbers.forEach((n, at) => {
      place.set(data.places.subarray(2 * n, 2 * n + 2), 2 * at);
      color.set(paint.subarray(4 * n, 4 * n + 3), 4 * at);
    });
    const attributes = { places: { value: place, size: 2, normalized: true }, colors: { value: color, size: 4, normalized: true } };
    return numbers.length ? { length: numbers.length, attributes } : null;
  };

  // Show some points above all others, larger and with an edge, and one larger still; -1 for none.
  const mark = (numbers, one = -1) => {
    marked = numbers;
    marks = some(numbers);
    pointed = some(one >= 0 ? [one] : []);
    look();
  };

  const recolor = () => {
    colors = palette(stage);
    repaint();
  };
  for (const scheme of ["dark", "light"]) window.matchMedia(`(prefers-color-scheme: ${scheme})`).addEventListener("change", recolor);

  return {
    look,
    mark,
    // Colour all points; those that *test* is true of are faint.
    paint: (coloring, test) => {
      shown = coloring;
      isDim = test;
      repaint();
    },
    pans: (may) => deck.setProps({ controller: { keyboard: false, dragPan: may, inertia: 250, scrollZoom: { speed: 0.015, smooth: false } } }),
    stop: () => deck.finalize(),
  };
};
