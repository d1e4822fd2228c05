// The legend: what the colours mean, with a button for each value that shows its points alone.
import { NOTHING } from "./data.js";

const SHADES = 255;

const make = (parent, tag, text, className) => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (className) element.className = className;
  parent?.append(element);
  return element;
};

// Return [red, green, blue] of a custom property of the stylesheet, a colour such as #1f77b4.
export const colorOf = (element, name) => {
  const hex = getComputedStyle(element).getPropertyValue(name).trim();
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
};

// Return the colours of the stylesheet as they are now: of values in turn, of a scale from low to high, and of points without a value.
export const palette = (element) => ({
  values: Array.from({ length: 12 }, (_, n) => colorOf(element, `--map-${n}`)),
  scale: Array.from({ length: 5 }, (_, n) => colorOf(element, `--map-scale-${n}`)),
  nothing: colorOf(element, "--map-nothing"),
  ground: colorOf(element, "--map-ground"),
  ink: colorOf(element, "--em-ink"),
});

const onScale = (scale, code) => {
  const at = (code / (SHADES - 1)) * (scale.length - 1);
  const low = Math.min(Math.floor(at), scale.length - 2);
  return scale[low].map((value, n) => Math.round(value + (scale[low + 1][n] - value) * (at - low)));
};

// Return the colour of every code from 0 to 255.
const colorsOf = (legend, { values, scale, nothing }) =>
  Array.from({ length: SHADES + 1 }, (_, code) => {
    if (code === NOTHING) return nothing;
    if (legend.kind !== "values") return onScale(scale, code);
    return legend.other && code === legend.values.length ? nothing : values[code % values.length];
  });

// Fill *paint* (red, green, blue, alpha of each point) by the codes of the points; those that *isDim* is true of are faint.
export const paintPoints = (paint, { legend, codes }, colors, isDim) => {
  const table = colorsOf(legend, colors);
  for (let n = 0, at = 0; n < codes.length; n += 1, at += 4) {
    const [red, green, blue] = table[codes[n]];
    paint[at] = red;
    paint[at + 1] = green;
    paint[at + 2] = blue;
    paint[at + 3] = isDim(n) ? 22 : codes[n] === NOTHING ? 130 : 255;
  }
};

const number = (count) => count.toLocaleString("en");

// Show a legend in *section*; *choose* is called with the code whose points are to be seen alone, or null for all.
export const showLegend = (section, title, legend, links, choose) => {
  section.querySelector("h2").textContent = title;
  const body = section.querySelector(".map-legend-body");
  body.replaceChildren();
  if (legend.kind !== "values") {
    make(body, "div", "", "map-scale").ariaHidden = "true";
    const ends = make(body, "p", "", "map-ends");
    make(ends, "span", `${legend.low.toLocaleString?.("en") ?? legend.low}`);
    make(ends, "span", `${legend.high.toLocaleString?.("en") ?? legend.high}`);
    if (legend.missing) make(body, "p", `${number(legend.missing)} without a value`, "embeddings-fine");
    return;
  }
  const list = make(body, "ol");
  const buttons = [];
  const entry = (code, name, count, color) => {
    const line = make(list, "li");
    const button = make(line, "button", "", "map-only");
    button.type = "button";
    button.ariaPressed = "false";
    button.title = `Show ${name} alone`;
    make(button, "span", "", `map-swatch ${color}`);
    make(button, "span", name, "map-value");
    buttons.push(button);
    button.addEventListener("click", () => {
      const chosen = button.ariaPressed !== "true";
      for (const other of buttons) other.ariaPressed = "false";
      button.ariaPressed = String(chosen);
      choose(chosen ? code : null);
    });
    if (links?.[code]) {
      const link = make(line, "a", number(count), "map-count");
      link.href = links[code];
      link.ariaLabel = `${number(count)} rows of ${name}`;
    } else {
      make(line, "span", number(count), "map-count");
    }
  };
  legend.values.forEach((name, code) => entry(code, name, legend.counts[code], `map-c${code % 12}`));
  if (legend.other) entry(legend.values.length, "all others", legend.other, "map-c-none");
  if (legend.missing) entry(NOTHING, "without a value", legend.missing, "map-c-none");
};
