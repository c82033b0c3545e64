// Pointer and wheel on the canvas, in terms of the engine. What the left button drags is the page's choice.

import { GROUPS } from "./engine.js";

const GRIP = 14; // CSS pixels on both sides of the divider

/** `page` has: tool(), turn(slices), changed(), pointed(value). */
export function followPointer(engine, page) {
  const { canvas } = engine;
  let drag = null;

  canvas.addEventListener("pointerdown", (event) => {
    const { x, y } = place(canvas, event);
    canvas.setPointerCapture(event.pointerId);
    drag = begin(engine, page, event, x, y);
  });
  canvas.addEventListener("pointermove", (event) => {
    const { x, y } = place(canvas, event);
    if (drag) drag(x, y);
    page.pointed(engine.valueAt(x, y));
    canvas.classList.toggle("dividing", overDivider(engine, x));
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (drag = null));
  canvas.addEventListener("pointerleave", () => page.pointed(null));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      if (event.ctrlKey || event.metaKey) {
        const zoom = engine.state.view.zoom * Math.exp(-Math.sign(event.deltaY) * 0.15);
        engine.view({ zoom }, place(canvas, event));
        page.changed();
      } else if (event.deltaY) page.turn(Math.sign(event.deltaY));
    },
    { passive: false },
  );
}

function begin(engine, page, event, x, y) {
  if (event.button === 0 && !event.shiftKey && overDivider(engine, x)) {
    return (toX) => {
      engine.divide(toX / engine.width);
      page.changed();
    };
  }
  const pans = event.button === 1 || event.button === 2 || event.shiftKey || page.tool() === "pan";
  if (pans) return panning(engine, page, x, y);
  return page.tool() === "region" ? measuring(engine, page, x, y) : windowing(engine, page, x, y);
}

function panning(engine, page, x, y) {
  const start = { ...engine.state.view };
  const found = engine.locate(x, y);
  if (!found) return null;
  return (toX, toY) => {
    engine.view({ x: start.x + (toX - x) / found.scale, y: start.y + (toY - y) / found.scale });
    page.changed();
  };
}

/** Sideways is width, up and down is centre: the full height of the canvas is twice the width at the start. */
function windowing(engine, page, x, y) {
  const found = engine.locate(x, y);
  if (!found) return null;
  const group = GROUPS[found.layer];
  const { center, width } = engine.windows[group];
  const step = (2 * width) / Math.max(200, engine.height);
  page.chose(group);
  return (toX, toY) => {
    engine.window(group, center + (toY - y) * step, width + (toX - x) * step);
    page.changed();
  };
}

function measuring(engine, page, x, y) {
  const from = engine.locate(x, y);
  if (!from) return null;
  return (toX, toY) => {
    const to = engine.locate(toX, toY, from.pane);
    const [rows, columns] = [Math.abs(to.row - from.row) / 2, Math.abs(to.column - from.column) / 2];
    if (rows < 0.5 || columns < 0.5) return;
    engine.mark({ region: { row: (from.row + to.row) / 2, column: (from.column + to.column) / 2, rows, columns } });
    page.changed();
  };
}

function overDivider(engine, x) {
  return engine.state.layout === "slider" && Math.abs(x - engine.width * engine.state.divider) <= GRIP;
}

function place(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}
