// From 16-bit stored values to the colours of the screen. Values are never changed: a window only chooses colours.

const STORED_VALUES = 65536;
const OPAQUE = 0xff000000; // the canvas has its bytes as R, G, B, A, which is ABGR as a little-endian number

/** The colour of every stored value under a window (PS3.3 C.11.2.1.3.2, linear exact), which is in intensities. */
export function greyTable(slope, center, width, table = new Uint32Array(STORED_VALUES)) {
  const low = center - width / 2;
  const scale = (255 * slope) / width;
  const offset = (-255 * low) / width;
  for (let value = 0; value < STORED_VALUES; value++) {
    const level = value * scale + offset;
    const grey = level <= 0 ? 0 : level >= 255 ? 255 : Math.round(level);
    table[value] = OPAQUE | (grey << 16) | (grey << 8) | grey;
  }
  return table;
}

/** The colour of every difference of two stored values, at index difference + 65535: blue below zero, black at zero,
 *  orange above it. `limit` is the intensity at which the colour is full. */
export function differenceTable(slope, limit, table = new Uint32Array(2 * STORED_VALUES - 1)) {
  for (let index = 0; index < table.length; index++) {
    const level = Math.max(-1, Math.min(1, ((index - STORED_VALUES + 1) * slope) / limit));
    const [red, green, blue] = level < 0 ? [-70 * level, -150 * level, -255 * level] : [255 * level, 150 * level, 40 * level];
    table[index] = OPAQUE | (Math.round(blue) << 16) | (Math.round(green) << 8) | Math.round(red);
  }
  return table;
}

/** The colour of every stored value of the trust map: black where no error is expected, over red and yellow to white at the
 *  intensity `limit` and above. */
export function heatTable(slope, limit, table = new Uint32Array(STORED_VALUES)) {
  for (let value = 0; value < STORED_VALUES; value++) {
    const level = 3 * Math.min(1, (value * slope) / limit);
    const [red, green, blue] = [0, 1, 2].map((start) => Math.round(255 * Math.max(0, Math.min(1, level - start))));
    table[value] = OPAQUE | (blue << 16) | (green << 8) | red;
  }
  return table;
}

/** One layer of one slice in colours, on a canvas of its own that is painted again only when something has changed. */
export class Picture {
  constructor(rows, columns) {
    this.canvas = document.createElement("canvas");
    this.canvas.width = columns;
    this.canvas.height = rows;
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.image = this.context.createImageData(columns, rows);
    this.colours = new Uint32Array(this.image.data.buffer);
    this.stale = true;
  }

  paint(values, table) {
    const { colours } = this;
    for (let i = 0; i < colours.length; i++) colours[i] = table[values[i]];
    this.#finish();
  }

  paintDifference(minuend, subtrahend, table) {
    const { colours } = this;
    for (let i = 0; i < colours.length; i++) colours[i] = table[minuend[i] - subtrahend[i] + STORED_VALUES - 1];
    this.#finish();
  }

  #finish() {
    this.context.putImageData(this.image, 0, 0);
    this.stale = false;
  }
}
