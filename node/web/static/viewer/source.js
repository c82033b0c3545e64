// The layers of a result, slice by slice from the node. A slice is one request; neighbours are fetched ahead.

const MOST_BYTES = 256 * 1024 * 1024;

export class Source {
  #slices = new Map(); // index -> promise of {layer: Uint16Array}, the last used at the end

  /** `geometry` is the description of the layers file; `url` is that of a slice, less its number. */
  constructor(geometry, url) {
    this.geometry = geometry;
    this.url = url;
    const bytes = geometry.layers.length * geometry.rows * geometry.columns * 2;
    this.room = Math.max(3, Math.floor(MOST_BYTES / bytes));
  }

  /** {layer: Uint16Array} of a slice. */
  slice(index) {
    const known = this.#slices.get(index);
    const wanted = known ?? this.#fetch(index);
    this.#slices.delete(index);
    this.#slices.set(index, wanted);
    if (this.#slices.size > this.room) this.#slices.delete(this.#slices.keys().next().value);
    return wanted;
  }

  /** Fetch what is likely to be looked at next, nearest first, one at a time, until another slice is looked at. */
  async ahead(index) {
    this.centre = index;
    const reach = Math.min(this.room - 1, this.geometry.slices);
    for (let step = 1; step <= reach; step++) {
      for (const near of [index + step, index - step]) {
        if (this.centre !== index) return;
        if (near >= 0 && near < this.geometry.slices && this.#slices.size < this.room && !this.#slices.has(near)) {
          await this.slice(near).catch(() => this.#slices.delete(near));
        }
      }
    }
  }

  async #fetch(index) {
    const answer = await fetch(`${this.url}${index}`, { credentials: "same-origin" });
    if (!answer.ok) {
      this.#slices.delete(index);
      throw new Error(answer.status === 401 ? "Your session has ended. Log in again." : `Slice ${index + 1} cannot be read (HTTP ${answer.status}).`);
    }
    const { rows, columns, layers } = this.geometry;
    const buffer = await answer.arrayBuffer();
    const size = rows * columns;
    return Object.fromEntries(layers.map(({ name }, i) => [name, new Uint16Array(buffer, i * size * 2, size)]));
  }
}
