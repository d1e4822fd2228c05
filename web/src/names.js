// The names of clusters on the map: those of large clusters first, none over another, more of them as one comes nearer.

const PIXELS_PER_NAME = 24000; // fewer and larger names are read; many are looked at
const GAP = 6;

const make = (parent, label) => {
  const element = document.createElement("span");
  element.textContent = label;
  parent.append(element);
  return element;
};

// Return what puts the names where a view has room for them. *clusters*: the largest first. *obstacle*: an element that they are not under.
export const nameLayer = (parent, clusters, obstacle) => {
  const names = clusters.map((cluster) => ({ ...cluster, element: make(parent, cluster.label) }));
  const measure = () => {
    for (const name of names) Object.assign(name, { width: name.element.offsetWidth, height: name.element.offsetHeight });
  };
  measure();
  const place = (view) => {
    const most = Math.max(5, Math.floor((view.width * view.height) / PIXELS_PER_NAME));
    const { offsetLeft: left, offsetTop: top, offsetWidth, offsetHeight } = obstacle;
    const taken = [{ left, top, right: left + offsetWidth, bottom: top + offsetHeight }];
    for (const name of names) {
      const [middle, line] = view.pixel(name.x, name.y);
      const box = { left: middle - name.width / 2, top: line - name.height / 2 };
      box.right = box.left + name.width;
      box.bottom = box.top + name.height;
      const seen = box.left >= 2 && box.top >= 2 && box.right <= view.width - 2 && box.bottom <= view.height - 2;
      const free = seen && taken.length <= most && taken.every((other) => apart(box, other));
      name.element.classList.toggle("map-shown", free);
      if (!free) continue;
      name.element.style.transform = `translate(${box.left}px, ${box.top}px)`;
      taken.push(box);
    }
  };
  return { place, measure };
};

const apart = (one, other) =>
  one.right + GAP < other.left || other.right + GAP < one.left || one.bottom + GAP < other.top || other.bottom + GAP < one.top;
