// Everything by keyboard, while the canvas has the focus. The table is also what the help shows.

const PAN_STEP = 10; // mm
const FAST = 10;
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** `page` has: turn, go, layout, choose, reset, save, toggleInterpolation, toggleTheme, help, mode(), setMode, changed,
 *  pointed, slices. */
export function followKeys(engine, page) {
  engine.canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in ARROWS ? arrow(engine, page, event) : letter(engine, page, event.key)) event.preventDefault();
  });
}

function arrow(engine, page, event) {
  const [down, across] = ARROWS[event.key];
  if (page.mode() === "cursor") return moveCursor(engine, page, down, across, event.shiftKey ? FAST : 1);
  if (page.mode() === "region") return changeRegion(engine, page, down, across, event.shiftKey);
  if (event.shiftKey) {
    const { x, y } = engine.state.view;
    engine.view({ x: x + across * PAN_STEP, y: y + down * PAN_STEP });
    page.changed();
  } else if (down) page.turn(down);
  else if (engine.state.layout === "slider") {
    engine.divide(engine.state.divider + across * 0.02);
    page.changed();
  } else return false;
  return true;
}

function letter(engine, page, key) {
  const { zoom } = engine.state.view;
  const actions = {
    1: () => page.layout("side"),
    2: () => page.layout("slider"),
    3: () => page.layout("difference"),
    4: () => page.layout("trust"),
    PageUp: () => page.turn(-5),
    PageDown: () => page.turn(5),
    Home: () => page.go(0),
    End: () => page.go(page.slices - 1),
    "+": () => engine.view({ zoom: zoom * 1.25 }),
    "=": () => engine.view({ zoom: zoom * 1.25 }),
    "-": () => engine.view({ zoom: zoom / 1.25 }),
    w: () => stretch(engine, page, 0, 1.1),
    n: () => stretch(engine, page, 0, 1 / 1.1),
    ".": () => stretch(engine, page, -0.05, 1),
    ",": () => stretch(engine, page, 0.05, 1),
    t: () => page.choose(),
    r: () => page.reset(),
    i: () => page.toggleInterpolation(),
    c: () => page.setMode("cursor"),
    m: () => page.setMode("region"),
    s: () => page.save(),
    d: () => page.toggleTheme(),
    "?": () => page.help(),
    Escape: () => page.setMode(null),
    Delete: () => engine.mark({ region: null }),
    Backspace: () => engine.mark({ region: null }),
  };
  const action = actions[key] ?? actions[key.toLowerCase()];
  if (!action) return false;
  action();
  page.changed();
  return true;
}

/** Change the chosen window: its centre by a share of its width, its width by a factor. */
function stretch(engine, page, shift, factor) {
  const group = page.group();
  const { center, width } = engine.windows[group];
  engine.window(group, center + shift * width, width * factor);
}

function moveCursor(engine, page, down, across, step) {
  const { rows, columns } = engine.geometry;
  const { row, column } = engine.state.cursor;
  const cursor = {
    row: Math.max(0, Math.min(rows - 1, row + down * step)),
    column: Math.max(0, Math.min(columns - 1, column + across * step)),
  };
  engine.mark({ cursor });
  page.pointed(engine.valuesOf(cursor.row, cursor.column), true);
  return true;
}

function changeRegion(engine, page, down, across, resize) {
  const region = { ...engine.state.region };
  if (resize) {
    region.rows = Math.max(0.5, region.rows + down);
    region.columns = Math.max(0.5, region.columns + across);
  } else {
    region.row += down;
    region.column += across;
  }
  engine.mark({ region });
  page.changed();
  return true;
}
