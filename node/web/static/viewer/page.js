// The viewer page: toolbar, readings and address bar on one side, the engine on the other.

import { Engine, TRUST } from "./engine.js";
import { followKeys } from "./keys.js";
import { followPointer } from "./gestures.js";
import { LAYOUTS } from "./panes.js";
import { Source } from "./source.js";

const OWN_WINDOW = ["difference", TRUST]; // layouts whose second layer has a window of its own, of the same name

const root = document.getElementById("viewer");
const find = (id) => document.getElementById(id);
const say = (text) => (find("status").textContent = text);

async function start() {
  const answer = await fetch(root.dataset.geometry, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`The layers cannot be read (HTTP ${answer.status}).`);
  const geometry = await answer.json();
  const labels = JSON.parse(root.dataset.labels);
  const engine = new Engine(find("canvas"), geometry, labels);
  root.engine = engine; // for whoever scripts this page
  new Viewer(engine, new Source(geometry, root.dataset.slices)).begin();
}

class Viewer {
  #mode = null;
  #group = "t2";
  #wanted = 0;

  constructor(engine, source) {
    this.engine = engine;
    this.source = source;
    this.slices = engine.geometry.slices;
    this.original = structuredClone(engine.windows);
  }

  begin() {
    const state = new URLSearchParams(location.hash.slice(1));
    find("slice").max = this.slices;
    this.layout(state.get("layout") in LAYOUTS ? state.get("layout") : "side");
    this.#listen();
    followPointer(this.engine, this);
    followKeys(this.engine, this);
    new ResizeObserver(() => this.engine.resize()).observe(this.engine.canvas);
    this.go(Math.max(0, (Number(state.get("slice")) || Math.ceil((this.slices + 1) / 2)) - 1));
    this.engine.canvas.focus({ preventScroll: true });
  }

  // ---- what gestures and keys ask for

  turn(by) {
    this.go(this.#wanted + by);
  }

  async go(slice) {
    this.#wanted = Math.max(0, Math.min(this.slices - 1, slice));
    const wanted = this.#wanted;
    this.changed();
    try {
      const frames = await this.source.slice(wanted);
      if (wanted !== this.#wanted) return; // another was asked for since
      this.engine.show(frames, wanted);
      this.changed();
      root.dataset.shown = wanted + 1;
      this.source.ahead(wanted);
    } catch (error) {
      say(error.message);
    }
  }

  layout(layout) {
    if (layout === TRUST && !(TRUST in this.engine.windows)) {
      say("There is no trust map for this result.");
      return;
    }
    this.engine.layout(layout, [find("left").value, find("right").value]);
    if (OWN_WINDOW.includes(layout)) this.#group = layout;
    else if (OWN_WINDOW.includes(this.#group)) this.#group = "t2";
    for (const button of document.querySelectorAll("[data-layout]")) {
      button.setAttribute("aria-pressed", String(button.dataset.layout === layout));
    }
    find("slider-controls").hidden = layout !== "slider";
    for (const own of OWN_WINDOW) find(`${own}-controls`).hidden = layout !== own;
    this.changed();
  }

  tool() {
    return document.querySelector("input[name=tool]:checked").value;
  }

  group() {
    return this.#group;
  }

  chose(group) {
    this.#group = group;
  }

  choose() {
    const { layout } = this.engine.state;
    const groups = ["t2", OWN_WINDOW.includes(layout) ? layout : "t1"];
    this.#group = groups[(groups.indexOf(this.#group) + 1) % groups.length];
    const names = { t2: "T2", t1: "T1", difference: "the difference", trust: "the expected error" };
    say(`The keys W, N, comma and full stop now change the window of ${names[this.#group]}.`);
  }

  mode() {
    return this.#mode;
  }

  setMode(mode) {
    const { engine } = this;
    const { rows, columns } = engine.geometry;
    this.#mode = mode;
    if (mode === "cursor" && !engine.state.cursor) engine.mark({ cursor: { row: rows >> 1, column: columns >> 1 } });
    if (mode === null) engine.mark({ cursor: null });
    if (mode === "region" && !engine.state.region) {
      const radius = Math.max(2, Math.round(Math.min(rows, columns) / 25));
      engine.mark({ region: { row: rows / 2, column: columns / 2, rows: radius, columns: radius } });
    }
    if (mode === "cursor") this.pointed(engine.valuesOf(engine.state.cursor.row, engine.state.cursor.column), true);
    say({
      cursor: "Cursor: arrows move it, with Shift by 10 pixels, Escape ends.",
      region: "Region: arrows move it, with Shift they change its size, Delete removes it, Escape ends.",
    }[mode] ?? "");
    this.changed();
  }

  reset() {
    for (const [group, { center, width }] of Object.entries(this.original)) this.engine.window(group, center, width);
    this.engine.view({ zoom: 1, x: 0, y: 0 });
    this.engine.divide(0.5);
    this.engine.mark({ region: null });
    this.setMode(null);
  }

  toggleInterpolation() {
    find("interpolate").checked = !find("interpolate").checked;
    this.engine.mark({ interpolate: find("interpolate").checked });
  }

  toggleTheme() {
    document.querySelector("[data-theme-toggle]").click();
  }

  help() {
    find("help").showModal();
  }

  async save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await this.engine.toImage());
    link.download = `${root.dataset.name}-slice-${this.engine.slice + 1}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    say(`Saved ${link.download}. Research use only, not for diagnosis.`);
  }

  // ---- what they changed

  pointed(found, aloud = false) {
    const shown = found ?? (this.engine.state.cursor && this.engine.valuesOf(this.engine.state.cursor.row, this.engine.state.cursor.column));
    find("place").textContent = shown ? `, row ${shown.row}, column ${shown.column}` : "";
    for (const cell of document.querySelectorAll("[data-value]")) {
      cell.textContent = shown ? signed(cell.dataset.value, shown.values[cell.dataset.value]) : "";
    }
    if (aloud && shown) {
      const texts = Object.entries(shown.values).map(([layer, value]) => `${this.engine.labels[layer]} ${number(value)}`);
      say(`Row ${shown.row}, column ${shown.column}: ${texts.join(", ")}`);
    }
  }

  changed() {
    const { engine } = this;
    find("slice").value = this.#wanted + 1;
    find("slice-text").textContent = `${this.#wanted + 1} / ${this.slices}`;
    find("zoom").textContent = `${Math.round(engine.state.view.zoom * 100)} %`;
    find("divider").value = Math.round(engine.state.divider * 100);
    for (const input of document.querySelectorAll("[data-window]")) {
      const [group, part] = input.dataset.window.split(".");
      if (group in engine.windows && input !== document.activeElement) input.value = Number(engine.windows[group][part].toPrecision(4));
    }
    this.#measured(engine.measure());
    history.replaceState(null, "", `#slice=${this.#wanted + 1}&layout=${engine.state.layout}`);
  }

  #measured(found) {
    const [betweenRows, betweenColumns] = this.engine.geometry.spacing;
    find("region-size").textContent = found
      ? `${found.pixels} pixels, ${(found.pixels * betweenRows * betweenColumns).toFixed(1)} mm²`
      : "drag with the tool ROI, or press M";
    for (const cell of document.querySelectorAll("[data-region]")) {
      const layer = found?.layers[cell.dataset.region];
      cell.textContent = layer ? spread(cell.dataset.region, layer) : "";
    }
  }

  #listen() {
    const { engine } = this;
    const refocus = (event) => event.detail && engine.canvas.focus({ preventScroll: true }); // after a click, not a key
    const actions = {
      "zoom-in": () => engine.view({ zoom: engine.state.view.zoom * 1.25 }),
      "zoom-out": () => engine.view({ zoom: engine.state.view.zoom / 1.25 }),
      reset: () => this.reset(),
      save: () => this.save(),
      "show-help": () => this.help(),
    };
    for (const [id, action] of Object.entries(actions)) {
      find(id).addEventListener("click", (event) => {
        action();
        this.changed();
        if (id !== "show-help") refocus(event);
      });
    }
    for (const input of document.querySelectorAll(".tools [type=checkbox], .tools [type=radio]")) {
      input.addEventListener("click", refocus);
    }
    for (const button of document.querySelectorAll("[data-layout]")) {
      button.addEventListener("click", (event) => {
        this.layout(button.dataset.layout);
        refocus(event);
      });
    }
    for (const input of document.querySelectorAll("[data-window]")) {
      input.addEventListener("change", () => {
        const group = input.dataset.window.split(".")[0];
        const [center, width] = ["center", "width"].map((part) => {
          const field = document.querySelector(`[data-window="${group}.${part}"]`);
          return field ? Number(field.value) : 0;
        });
        if (Number.isFinite(center) && width > 0) engine.window(group, center, width);
        this.chose(group);
        this.changed();
      });
    }
    find("slice").addEventListener("input", () => this.go(Number(find("slice").value) - 1));
    find("divider").addEventListener("input", () => engine.divide(Number(find("divider").value) / 100));
    for (const id of ["left", "right"]) find(id).addEventListener("change", () => this.layout("slider"));
    find("interpolate").addEventListener("change", () => engine.mark({ interpolate: find("interpolate").checked }));
  }
}

/** All digits of a pixel value: 16 bits, and a slope that is a power of two. */
const number = (value) => String(Number(value.toPrecision(9))).replace("-", "−");
const plus = (layer, value) => (layer === "difference" && value > 0 ? "+" : "");
const signed = (layer, value) => plus(layer, value) + number(value);

/** Mean and standard deviation, with as many decimals as give the latter three digits. */
function spread(layer, { mean, sd }) {
  const decimals = sd > 0 ? Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(sd)))) : 3;
  return `${plus(layer, mean)}${mean.toFixed(decimals).replace("-", "−")} ± ${sd.toFixed(decimals)}`;
}

start().catch((error) => say(error.message));
