// The drawing engine. The page uses only: show, window, view, layout, divide, mark, resize, toImage, valueAt, measure.
// It draws on a 2-D canvas, since WebGL cannot be assumed on a reading workstation or through a remote desktop.

import { Picture, differenceTable, greyTable, heatTable } from "./paint.js";
import { paneAt, panes, placement, toImage, zoomedAt } from "./panes.js";
import { drawOverlay } from "./overlay.js";
import { statistics } from "./region.js";

export const GROUPS = { zero_filled: "t2", super_resolved: "t2", reference: "t1", difference: "difference", expected_error: "trust" };
export const DIFFERENCE = "difference";
export const TRUST = "trust"; // the group, and the layout, of the layer expected_error, which old results do not have

export class Engine {
  #frames = null;
  #pictures = {};
  #tables = {};
  #pending = false;

  /** `geometry` is the description of the layers file; `labels` names every layer, and `difference`, on the screen. */
  constructor(canvas, geometry, labels) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.geometry = geometry;
    this.labels = labels;
    this.slopes = Object.fromEntries(geometry.layers.map((layer) => [layer.name, layer.slope]));
    const named = (name) => geometry.layers.find((layer) => layer.name === name);
    const [t2, t1, trust] = ["super_resolved", "reference", "expected_error"].map(named);
    this.windows = {
      t2: { center: t2.center, width: t2.width },
      t1: { center: t1.center, width: t1.width },
      difference: { center: 0, width: t2.width / 2 },
    };
    if (trust) this.windows[TRUST] = { center: trust.width / 2, width: trust.width };
    this.state = {
      view: { zoom: 1, x: 0, y: 0 },
      layout: "side",
      compared: ["zero_filled", "super_resolved"],
      divider: 0.5,
      interpolate: true,
      cursor: null, // {row, column}, in image coordinates
      region: null, // {row, column, rows, columns}
    };
    this.slice = 0;
    this.resize();
  }

  /** Show the frames of a slice: {layer: Uint16Array}. */
  show(frames, slice) {
    this.#frames = frames;
    this.slice = slice;
    this.#repaint(Object.keys(GROUPS));
  }

  /** Set the window of a group of layers (t2, t1, difference, trust), in intensities. That of the difference is around 0, that of the
   *  trust map begins there. */
  window(group, center, width) {
    const wide = Math.max(width, this.#narrowest(group));
    this.windows[group] = { center: { [DIFFERENCE]: 0, [TRUST]: wide / 2 }[group] ?? center, width: wide };
    delete this.#tables[group];
    this.#repaint(Object.keys(GROUPS).filter((layer) => GROUPS[layer] === group));
  }

  /** Change zoom and place of all panes together: any of {zoom, x, y}; `at` is a point of the canvas that stays. */
  view(change, at = null) {
    const view = { ...this.state.view, ...change };
    view.zoom = Math.max(0.25, Math.min(32, view.zoom));
    const pane = at && this.#paneAt(at.x, at.y);
    this.state.view = pane ? zoomedAt(pane, this.geometry, this.state.view, view.zoom, at.x, at.y) : view;
    this.draw();
  }

  /** Choose what is side by side: "side", "slider" (with its two layers), "difference" or "trust". */
  layout(layout, compared = this.state.compared) {
    Object.assign(this.state, { layout, compared });
    this.draw();
  }

  /** Put the slider's divider at a share of the width. */
  divide(share) {
    this.state.divider = Math.max(0, Math.min(1, share));
    this.draw();
  }

  /** Set any of: cursor, region, interpolate. */
  mark(change) {
    Object.assign(this.state, change);
    this.draw();
  }

  /** Take the size that the page gives the canvas. */
  resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    this.density = Math.min(window.devicePixelRatio || 1, 2);
    this.canvas.width = Math.max(1, Math.round(width * this.density));
    this.canvas.height = Math.max(1, Math.round(height * this.density));
    this.width = width;
    this.height = height;
    this.draw();
  }

  /** What the canvas shows, as a PNG. */
  toImage() {
    this.#render();
    return new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
  }

  /** {row, column, layer, values} under a point of the canvas, values being intensities by layer; null outside the image. */
  valueAt(x, y) {
    const pane = this.#paneAt(x, y);
    if (!pane || !this.#frames) return null;
    const { row, column } = toImage(pane, this.geometry, this.state.view, x, y);
    return this.valuesOf(Math.floor(row), Math.floor(column), pane.layer);
  }

  /** The same for a pixel of the image. */
  valuesOf(row, column, layer = null) {
    const { rows, columns } = this.geometry;
    if (!this.#frames || row < 0 || column < 0 || row >= rows || column >= columns) return null;
    const offset = row * columns + column;
    const values = Object.fromEntries(Object.entries(this.#readers()).map(([name, valueOf]) => [name, valueOf(offset)]));
    return { row, column, layer, values };
  }

  /** Mean and standard deviation of every layer within the marked region; null when there is none. */
  measure() {
    const { region } = this.state;
    if (!region || !this.#frames) return null;
    return statistics(region, this.geometry.columns, this.geometry.rows, this.#readers());
  }

  /** {row, column, layer, pane, scale}: image coordinates of a point of the canvas, also outside the image, and CSS pixels
   *  per mm. */
  locate(x, y, pane = this.#paneAt(x, y)) {
    if (!pane) return null;
    const { view } = this.state;
    const { scale } = placement(pane, this.geometry, view);
    return { ...toImage(pane, this.geometry, view, x, y), layer: pane.layer, pane, scale };
  }

  /** Draw with the next frame of the screen, however often it is asked for. */
  draw() {
    if (this.#pending) return;
    this.#pending = true;
    requestAnimationFrame(() => this.#render());
  }

  panes() {
    const { layout, compared } = this.state;
    return panes(layout, this.width, this.height, compared);
  }

  #render() {
    this.#pending = false;
    const { context, density } = this;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.width, this.height);
    if (!this.#frames) return;
    context.imageSmoothingEnabled = this.state.interpolate;
    context.imageSmoothingQuality = "high";
    const all = this.panes();
    all.forEach((pane, i) => drawOverlay(this, pane, i, () => this.#picture(pane.layer).canvas));
  }

  #paneAt(x, y) {
    return paneAt(this.panes(), this.state.layout, this.state.divider, x, y);
  }

  #readers() {
    const readers = {};
    for (const [name, values] of Object.entries(this.#frames)) {
      const slope = this.slopes[name];
      readers[name] = (offset) => values[offset] * slope;
    }
    const { super_resolved: minuend, zero_filled: subtrahend } = this.#frames;
    const slope = this.slopes.super_resolved;
    readers[DIFFERENCE] = (offset) => (minuend[offset] - subtrahend[offset]) * slope;
    return readers;
  }

  #narrowest(group) {
    return this.slopes[{ t1: "reference", [TRUST]: "expected_error" }[group] ?? "super_resolved"];
  }

  #repaint(layers) {
    for (const layer of layers) if (this.#pictures[layer]) this.#pictures[layer].stale = true;
    this.draw();
  }

  #picture(layer) {
    const { rows, columns } = this.geometry;
    const picture = (this.#pictures[layer] ??= new Picture(rows, columns));
    if (!picture.stale) return picture;
    if (layer === DIFFERENCE) {
      picture.paintDifference(this.#frames.super_resolved, this.#frames.zero_filled, this.#table(layer));
    } else {
      picture.paint(this.#frames[layer], this.#table(layer));
    }
    return picture;
  }

  #table(layer) {
    const group = GROUPS[layer];
    const { center, width } = this.windows[group];
    if (group === DIFFERENCE) return (this.#tables[group] ??= differenceTable(this.slopes.super_resolved, width / 2));
    if (group === TRUST) return (this.#tables[group] ??= heatTable(this.slopes[layer], width));
    return (this.#tables[group] ??= greyTable(this.slopes[layer], center, width));
  }
}
