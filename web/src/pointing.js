// Pointer and keys on the map: what is pointed at, a rectangle that is drawn, and moving without a mouse.

const STILL = 5; // pixels within which a press is a click
const STEP = 70; // pixels that an arrow key moves
const NEARER = 0.6; // steps of magnification of a key

// *on*: point(pixel or null, kind of pointer), open(pixel, kind, event), chosen(two corners, in pixels).
export const followPointer = (stage, canvas, frame, isSelecting, on) => {
  let from = null;
  let down = null;
  const pixel = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const far = (one, other) => Math.hypot(one[0] - other[0], one[1] - other[1]);

  const drawFrame = (to) => {
    const [left, top] = [Math.min(from[0], to[0]), Math.min(from[1], to[1])];
    frame.hidden = false;
    frame.style.transform = `translate(${left}px, ${top}px)`;
    frame.style.width = `${Math.abs(from[0] - to[0])}px`;
    frame.style.height = `${Math.abs(from[1] - to[1])}px`;
  };
  const stopFrame = () => {
    from = null;
    frame.hidden = true;
  };

  stage.addEventListener(
    "pointerdown",
    (event) => {
      if (!canvas.contains(event.target) || event.button > 0) return;
      down = pixel(event);
      if (!event.shiftKey && !isSelecting()) return;
      from = down;
      stage.setPointerCapture(event.pointerId);
      event.stopPropagation(); // or the map would move as well
      event.preventDefault();
      on.point(null);
    },
    true,
  );
  stage.addEventListener("pointermove", (event) => {
    if (from) drawFrame(pixel(event));
    else if (!event.buttons && canvas.contains(event.target)) on.point(pixel(event), event.pointerType);
    else on.point(null);
  });
  stage.addEventListener("pointerup", (event) => {
    const here = pixel(event);
    if (from && far(from, here) > STILL) on.chosen(from, here);
    else if (down && far(down, here) <= STILL && canvas.contains(event.target)) on.open(here, event.pointerType, event);
    stopFrame();
    down = null;
  });
  stage.addEventListener("pointercancel", stopFrame);
  stage.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") on.point(null);
  });
};

// *on*: move(right, up), zoom(steps), whole(), open(), list(), leave().
export const followKeys = (canvas, on) => {
  const keys = {
    ArrowLeft: () => on.move(-STEP, 0),
    ArrowRight: () => on.move(STEP, 0),
    ArrowUp: () => on.move(0, STEP),
    ArrowDown: () => on.move(0, -STEP),
    "+": () => on.zoom(NEARER),
    "=": () => on.zoom(NEARER),
    "-": () => on.zoom(-NEARER),
    0: on.whole,
    Home: on.whole,
    Enter: on.open,
    l: on.list,
    Escape: on.leave,
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
};
