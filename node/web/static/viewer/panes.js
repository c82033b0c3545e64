// Where things are: panes on the canvas, the image in a pane, and the patient around the image. No drawing here.

export const LAYOUTS = {
  side: ["zero_filled", "super_resolved", "reference"],
  slider: ["left", "right"],
  difference: ["super_resolved", "difference"],
  trust: ["super_resolved", "expected_error"],
};

/** Rectangles, in CSS pixels, for each pane of a layout: columns on a wide canvas, rows on a tall one. The two halves of
 *  the slider lie on each other. */
export function panes(layout, width, height, compared) {
  if (layout === "slider") {
    return compared.map((layer) => ({ layer, x: 0, y: 0, width, height }));
  }
  const layers = LAYOUTS[layout];
  const gap = 2;
  const across = width >= height;
  const side = ((across ? width : height) - gap * (layers.length - 1)) / layers.length;
  return layers.map((layer, i) =>
    across
      ? { layer, x: i * (side + gap), y: 0, width: side, height }
      : { layer, x: 0, y: i * (side + gap), width, height: side },
  );
}

/** How an image lies in a pane. `view` is {zoom, x, y}: zoom 1 shows the whole image; x and y are mm, by which the image's
 *  centre is moved from the pane's. */
export function placement(pane, geometry, view) {
  const [betweenRows, betweenColumns] = geometry.spacing;
  const imageWidth = geometry.columns * betweenColumns;
  const imageHeight = geometry.rows * betweenRows;
  const scale = Math.min(pane.width / imageWidth, pane.height / imageHeight) * view.zoom; // CSS pixels per mm
  return {
    scale,
    x: pane.x + pane.width / 2 + (view.x - imageWidth / 2) * scale,
    y: pane.y + pane.height / 2 + (view.y - imageHeight / 2) * scale,
    columnWidth: betweenColumns * scale,
    rowHeight: betweenRows * scale,
  };
}

/** From a point of the canvas to image coordinates: pixel (r, c) covers r to r + 1 and c to c + 1. */
export function toImage(pane, geometry, view, x, y) {
  const place = placement(pane, geometry, view);
  return { row: (y - place.y) / place.rowHeight, column: (x - place.x) / place.columnWidth };
}

/** The pane under a point. In the slider layout, the side of the divider decides. */
export function paneAt(all, layout, divider, x, y) {
  if (layout === "slider") return x < all[0].width * divider ? all[0] : all[1];
  return all.find((p) => x >= p.x && x < p.x + p.width && y >= p.y && y < p.y + p.height) ?? null;
}

/** The view with another zoom that leaves the point (x, y) of a pane where it is. */
export function zoomedAt(pane, geometry, view, zoom, x, y) {
  const { scale } = placement(pane, geometry, view);
  const next = (scale / view.zoom) * zoom;
  const fromCentre = { x: x - pane.x - pane.width / 2, y: y - pane.y - pane.height / 2 };
  return {
    zoom,
    x: view.x + fromCentre.x * (1 / next - 1 / scale),
    y: view.y + fromCentre.y * (1 / next - 1 / scale),
  };
}

/** Letters for the edges of the image (PS3.3 C.7.6.1.1.1): towards which side of the patient left, right, top and bottom
 *  lie. Oblique planes have up to three letters, the strongest first. */
export function edgeLetters(orientation) {
  const [alongRow, alongColumn] = orientation;
  const negative = (v) => v.map((component) => -component);
  return {
    left: letters(negative(alongRow)),
    right: letters(alongRow),
    top: letters(negative(alongColumn)),
    bottom: letters(alongColumn),
  };
}

function letters(direction) {
  const names = ["LR", "PA", "HF"];
  return direction
    .map((component, axis) => ({ size: Math.abs(component), letter: names[axis][component > 0 ? 0 : 1] }))
    .filter(({ size }) => size > 0.26) // 15 degrees: less is not worth a letter
    .sort((a, b) => b.size - a.size)
    .map(({ letter }) => letter)
    .join("");
}

/** A round length in mm whose bar is at most `longest` CSS pixels long. */
export function scaleBar(scale, longest) {
  const candidates = [1, 2, 5, 10, 20, 50, 100, 200];
  const fitting = candidates.filter((mm) => mm * scale <= longest);
  return fitting.length ? fitting[fitting.length - 1] : null;
}
