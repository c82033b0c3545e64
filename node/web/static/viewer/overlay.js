// One pane with everything in it: the image, then its label, patient directions, scale bar, region and cursor.

import { edgeLetters, placement, scaleBar } from "./panes.js";

const INK = "#f2f5f8";
const SHADOW = "rgba(0, 0, 0, 0.75)";
const MARK = "#ffd54a";
const FONT = "system-ui, 'Segoe UI', Roboto, sans-serif";

export function drawOverlay(engine, pane, index, image) {
  const { context, geometry, state } = engine;
  const place = placement(pane, geometry, state.view);
  const sliding = state.layout === "slider";
  const divider = Math.round(engine.width * state.divider);
  context.save();
  context.beginPath();
  if (sliding) context.rect(index ? divider : 0, 0, index ? engine.width - divider : divider, engine.height);
  else context.rect(pane.x, pane.y, pane.width, pane.height);
  context.clip();
  const width = geometry.columns * place.columnWidth;
  const height = geometry.rows * place.rowHeight;
  context.drawImage(image(), place.x, place.y, width, height);
  if (state.region) drawRegion(context, state.region, place);
  if (state.cursor) drawCursor(context, state.cursor, place);
  drawLabel(engine, pane, sliding && index === 1);
  if (pane.layer === "difference") drawLegend(context, pane, legendOfDifference(engine.windows.difference.width / 2));
  if (pane.layer === "expected_error") drawLegend(context, pane, legendOfTrust(engine.windows.trust.width));
  context.restore();
  if (sliding && !index) return; // what both halves share is drawn once, over both
  drawDirections(engine, pane, sliding ? -18 : 0);
  drawScale(context, pane, place.scale);
  if (sliding) drawDivider(context, divider, engine.height);
}

function drawLabel({ context, labels }, pane, atRight) {
  context.font = `600 15px ${FONT}`;
  context.textAlign = atRight ? "end" : "start";
  write(context, labels[pane.layer], atRight ? pane.x + pane.width - 10 : pane.x + 10, pane.y + 22);
  context.textAlign = "start";
}

function drawDirections({ context, geometry }, pane, aside) {
  if (pane.width < 220) return; // they would lie on the label
  const edges = edgeLetters(geometry.orientation);
  context.font = `600 13px ${FONT}`;
  context.textAlign = "center";
  write(context, edges.top, pane.x + pane.width / 2 + aside, pane.y + 18);
  write(context, edges.bottom, pane.x + pane.width / 2 + aside, pane.y + pane.height - 8);
  write(context, edges.left, pane.x + 14, pane.y + pane.height / 2);
  write(context, edges.right, pane.x + pane.width - 14, pane.y + pane.height / 2);
  context.textAlign = "start";
}

function drawScale(context, pane, scale) {
  const mm = scaleBar(scale, Math.min(160, pane.width / 3));
  if (!mm) return;
  const [x, y] = [pane.x + 12, pane.y + pane.height - 14];
  for (const [colour, thickness] of [[SHADOW, 5], [INK, 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = thickness;
    context.beginPath();
    context.moveTo(x, y - 5);
    context.lineTo(x, y);
    context.lineTo(x + mm * scale, y);
    context.lineTo(x + mm * scale, y - 5);
    context.stroke();
  }
  context.font = `12px ${FONT}`;
  write(context, `${mm} mm`, x + mm * scale + 6, y + 2);
}

const shown = (limit) => Number(limit.toPrecision(3));

/** The colours of a legend from left to right, and what is written below its left end, middle and right end. */
function legendOfDifference(limit) {
  return { colours: ["rgb(70, 150, 255)", "#000", "rgb(255, 150, 40)"], texts: [`−${shown(limit)}`, "0", `+${shown(limit)}`] };
}

function legendOfTrust(limit) {
  return { colours: ["#000", "#f00", "#ff0", "#fff"], texts: ["0", "in units of the image", `${shown(limit)}`] };
}

function drawLegend(context, pane, { colours, texts }) {
  const width = Math.min(180, pane.width / 3);
  const [x, y] = [pane.x + pane.width - width - 34, pane.y + pane.height - 32];
  const gradient = context.createLinearGradient(x, 0, x + width, 0);
  colours.forEach((colour, i) => gradient.addColorStop(i / (colours.length - 1), colour));
  context.fillStyle = gradient;
  context.fillRect(x, y, width, 8);
  context.strokeStyle = INK;
  context.lineWidth = 1;
  context.strokeRect(x + 0.5, y + 0.5, width, 8);
  context.font = `12px ${FONT}`;
  context.textAlign = "center";
  texts.forEach((text, i) => write(context, text, x + (width * i) / 2, y + 23));
  context.textAlign = "start";
}

function drawRegion(context, region, place) {
  context.strokeStyle = MARK;
  context.lineWidth = 1.5;
  context.beginPath();
  context.ellipse(
    place.x + region.column * place.columnWidth, place.y + region.row * place.rowHeight,
    region.columns * place.columnWidth, region.rows * place.rowHeight, 0, 0, 2 * Math.PI,
  );
  context.stroke();
}

function drawCursor(context, cursor, place) {
  const x = place.x + (cursor.column + 0.5) * place.columnWidth;
  const y = place.y + (cursor.row + 0.5) * place.rowHeight;
  for (const [colour, thickness] of [[SHADOW, 3], [MARK, 1]]) {
    context.strokeStyle = colour;
    context.lineWidth = thickness;
    context.beginPath();
    for (const [fromX, fromY, toX, toY] of [[-12, 0, -4, 0], [4, 0, 12, 0], [0, -12, 0, -4], [0, 4, 0, 12]]) {
      context.moveTo(x + fromX, y + fromY);
      context.lineTo(x + toX, y + toY);
    }
    context.stroke();
  }
}

function drawDivider(context, x, height) {
  context.fillStyle = MARK;
  context.fillRect(x - 1, 0, 2, height);
  context.beginPath();
  context.arc(x, height / 2, 11, 0, 2 * Math.PI);
  context.fill();
  context.fillStyle = "#1b2430";
  context.font = `700 13px ${FONT}`;
  context.textAlign = "center";
  context.fillText("↔", x, height / 2 + 4.5);
  context.textAlign = "start";
}

function write(context, text, x, y) {
  context.lineJoin = "round";
  context.strokeStyle = SHADOW;
  context.lineWidth = 3;
  context.strokeText(text, x, y);
  context.fillStyle = INK;
  context.fillText(text, x, y);
}
