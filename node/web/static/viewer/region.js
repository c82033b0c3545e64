// Measuring: an ellipse on the image, and mean and standard deviation of what lies within it.

/** Visit the offset of every pixel whose centre lies within an ellipse {row, column, rows, columns}: its centre and its
 *  radii, in image coordinates. */
function visit(region, width, height, take) {
  const firstRow = Math.max(0, Math.floor(region.row - region.rows));
  const lastRow = Math.min(height - 1, Math.ceil(region.row + region.rows));
  for (let r = firstRow; r <= lastRow; r++) {
    const down = (r + 0.5 - region.row) / region.rows;
    const reach = 1 - down * down;
    if (reach < 0) continue;
    const half = region.columns * Math.sqrt(reach);
    const first = Math.max(0, Math.ceil(region.column - half - 0.5));
    const last = Math.min(width - 1, Math.floor(region.column + half - 0.5));
    for (let c = first; c <= last; c++) take(r * width + c);
  }
}

/** {pixels, layers: {name: {mean, sd}}} of an ellipse: sd is that of the sample (n - 1). `readers` gives, for each name,
 *  the value at an offset. null when no pixel lies within. */
export function statistics(region, width, height, readers) {
  const offsets = [];
  visit(region, width, height, (offset) => offsets.push(offset));
  if (!offsets.length) return null;
  const layers = {};
  for (const [name, valueOf] of Object.entries(readers)) {
    let sum = 0;
    for (const offset of offsets) sum += valueOf(offset);
    const mean = sum / offsets.length;
    let squares = 0;
    for (const offset of offsets) squares += (valueOf(offset) - mean) ** 2;
    layers[name] = { mean, sd: offsets.length > 1 ? Math.sqrt(squares / (offsets.length - 1)) : 0 };
  }
  return { pixels: offsets.length, layers };
}
