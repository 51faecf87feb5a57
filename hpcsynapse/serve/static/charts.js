// Pictures of numbers: lines as SVG, ranks over steps as a canvas. Each says in words what it shows, and has a table.

import { h, number, replace, scrolling, svg } from "./dom.js";

const HEIGHT = 240, LEFT = 58, RIGHT = 12, TOP = 10, BOTTOM = 34, MOST_ROWS = 60;

export function lineChart({ title, x, y, format = number, formatX = number, zero = false }) {
  const picture = h("div", { class: "picture" });
  const readout = h("p", { class: "readout" }, "\u00a0");
  const legend = h("ul", { class: "legend" });
  const words = h("p", { class: "words" });
  const table = h("div");
  const more = h("details", null, h("summary", null, `${title} as a table`), table);
  const element = h("figure", null, h("figcaption", null, title), picture, readout, legend, words, more);
  let shown = [], drawn = 0;
  const draw = () => {
    drawn = picture.clientWidth || 640;
    replace(picture, drawing(title, shown, { x, y, format, formatX, zero, width: drawn, readout }));
  };
  if (window.ResizeObserver) new ResizeObserver(() => { if (shown.length && picture.clientWidth !== drawn) draw(); }).observe(picture);
  more.addEventListener("toggle", () => { if (more.open) replace(table, tableOf(title, shown, x, format, formatX)); });
  return {
    element,
    update(series) {
      shown = series.map((one) => ({ ...one, points: one.points.filter((point) => point[1] !== null && isFinite(point[1])) }))
        .filter((one) => one.points.length);
      element.hidden = !shown.length;
      if (!shown.length) return;
      replace(legend, shown.length > 1 || shown[0].name
        ? shown.map((one, at) => h("li", { class: `s${at % 8}` }, h("span", { "aria-hidden": "true", class: "key" }), one.name || y)) : null);
      replace(words, summary(shown, format, y));
      draw();
      if (more.open) replace(table, tableOf(title, shown, x, format, formatX));
    },
  };
}

function summary(series, format, y) {
  return series.slice(0, 6).map((one) => {
    const values = one.points.map((point) => point[1]);
    const name = one.name || y;
    if (values.length === 1) return `${name}: ${format(values[0])}. `;
    const [low, high] = range(values);
    return `${name}: from ${format(values[0])} to ${format(values.at(-1))}, lowest ${format(low)}, highest ${format(high)}. `;
  }).join("");
}

function range(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  return [low, high];
}

function drawing(title, series, { x, y, format, formatX, zero, width, readout }) {
  const all = series.flatMap((one) => one.points);
  const banded = series.flatMap((one) => (one.band || []).flatMap(([, low, high]) => [low, high]).filter((value) => value !== null));
  const [left, right] = widened(range(all.map((point) => point[0])), false);
  const [low, high] = widened(range([...all.map((point) => point[1]), ...banded, ...(zero ? [0] : [])]), !zero);
  const atX = (value) => LEFT + ((value - left) / (right - left)) * (width - LEFT - RIGHT);
  const atY = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const found = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": `${title}: ${summary(series, format, y)}` });
  for (const value of ticks(low, high, 4)) {
    found.append(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: atY(value), y2: atY(value) }),
      svg("text", { x: LEFT - 6, y: atY(value) + 4, "text-anchor": "end" }, format(value)));
  }
  for (const value of ticks(left, right, Math.max(2, Math.floor(width / 110)))) {
    found.append(svg("text", { x: atX(value), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, formatX(value)));
  }
  found.append(svg("text", { x: width - RIGHT, y: HEIGHT - 4, "text-anchor": "end", class: "axis" }, x));
  series.forEach((one, at) => {
    if (one.band && one.band.length > 1) found.append(svg("path", { class: `band s${at % 8}`, d: bandPath(one.band, atX, atY) }));
    const d = one.points.map((point, index) => `${index ? "L" : "M"}${atX(point[0]).toFixed(1)} ${atY(point[1]).toFixed(1)}`).join("");
    found.append(svg("path", { class: `line s${at % 8}`, d }));
    if (one.points.length < 25) {
      for (const point of one.points) found.append(svg("circle", { class: `dot s${at % 8}`, cx: atX(point[0]), cy: atY(point[1]), r: 3 }));
    }
  });
  found.addEventListener("pointermove", (event) => {
    const box = found.getBoundingClientRect();
    const wanted = left + ((event.clientX - box.left - LEFT) / (width - LEFT - RIGHT)) * (right - left);
    const near = series.map((one) => [one.name || y, nearest(one.points, wanted)]);
    readout.textContent = `${x} ${formatX(near[0][1][0])}: ${near.slice(0, 6).map(([name, point]) => `${name} ${format(point[1])}`).join(", ")}`;
  });
  found.addEventListener("pointerleave", () => { readout.textContent = "\u00a0"; });
  return found;
}

function bandPath(band, atX, atY) {
  const up = band.map(([at, , high]) => `${atX(at).toFixed(1)} ${atY(high).toFixed(1)}`);
  const down = band.map(([at, low]) => `${atX(at).toFixed(1)} ${atY(low).toFixed(1)}`).reverse();
  return `M${[...up, ...down].join("L")}Z`;
}

function nearest(points, wanted) {
  let best = points[0];
  for (const point of points) if (Math.abs(point[0] - wanted) < Math.abs(best[0] - wanted)) best = point;
  return best;
}

function widened([low, high], both) {
  if (low === high) return both ? [low - Math.abs(low) * 0.1 - 1e-9, high + Math.abs(high) * 0.1 + 1e-9] : [low, high + 1];
  const room = (high - low) * 0.04;
  return both ? [low - room, high + room] : [low, high];
}

export function ticks(low, high, wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough) || power * 10;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6 && found.length < 20; value += step) {
    found.push(Number(value.toPrecision(10)));
  }
  return found;
}

function tableOf(title, series, x, format, formatX) {
  const longest = series.reduce((best, one) => (one.points.length > best.length ? one.points : best), []);
  const every = Math.max(1, Math.ceil(longest.length / MOST_ROWS));
  const places = longest.filter((_, at) => at % every === 0 || at === longest.length - 1).map((point) => point[0]);
  const lookup = series.map((one) => one.points);
  const rows = places.map((place) => h("tr", null, h("th", { scope: "row" }, formatX(place)),
    lookup.map((points) => h("td", { class: "right" }, format(nearest(points, place)[1])))));
  return scrolling(h("table", null, h("caption", null, every > 1 ? `${title}, every ${every} points` : title),
    h("thead", null, h("tr", null, h("th", { scope: "col" }, x), series.map((one) => h("th", { scope: "col", class: "right" }, one.name || "value")))),
    h("tbody", null, rows)), `${title}, table`);
}

// Ranks as lines, steps from left to right; the longer, the stronger the colour.
export function heatMap(title, map, format) {
  const values = map.seconds.flat().filter((value) => value !== null);
  const sorted = [...values].sort((a, b) => a - b);
  const low = sorted[0] || 0, high = sorted[Math.floor(sorted.length * 0.99)] || low || 1;
  const size = Math.max(2, Math.min(18, Math.floor(360 / map.seconds.length)));
  const canvas = h("canvas", { class: "heat", width: map.step.length * 6, height: map.seconds.length * size, role: "img", "aria-label": words(map, format) });
  const brush = canvas.getContext("2d");
  map.seconds.forEach((line, at) => line.forEach((value, column) => {
    brush.fillStyle = value === null ? "#888" : heat((value - low) / (high - low || 1));
    brush.fillRect(column * 6, at * size, 6, size);
  }));
  const readout = h("p", { class: "readout" }, "\u00a0");
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const column = Math.min(map.step.length - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * map.step.length)));
    const line = Math.min(map.first.length - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * map.first.length)));
    readout.textContent = `${lineName(map, line)} from step ${map.step[column]}: ${format(map.seconds[line][column])}`;
  });
  const scale = h("p", { class: "words" }, `${words(map, format)} Light is ${format(low)}, dark is ${format(high)} and more.`);
  return h("figure", null, h("figcaption", null, title), canvas,
    h("p", { class: "ends" }, h("span", null, `step ${map.step[0]}`), h("span", null, `step ${map.step.at(-1)}`)), readout, scale,
    h("details", null, h("summary", null, `${title} as a table`), meansTable(title, map, format)));
}

function lineName(map, line) {
  const ranks = map.first[line] === map.last[line] ? `rank ${map.first[line]}` : `ranks ${map.first[line]} to ${map.last[line]}`;
  return map.hosts[line] ? `${ranks} on ${map.hosts[line]}` : ranks;
}

function means(map) {
  return map.seconds.map((line) => {
    const known = line.filter((value) => value !== null);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  });
}

function words(map, format) {
  const found = means(map), longest = found.indexOf(Math.max(...found));
  if (found.length < 2) return `One rank, ${format(found[0])} on average.`;
  return `${lineName(map, longest)} needs the longest, ${format(found[longest])} on average; the shortest is ${format(Math.min(...found))}.`;
}

function meansTable(title, map, format) {
  const rows = means(map).map((value, line) => h("tr", null, h("th", { scope: "row" }, lineName(map, line)), h("td", { class: "right" }, format(value))));
  return scrolling(h("table", null, h("caption", null, `${title}, mean over all steps shown`),
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "rank"), h("th", { scope: "col", class: "right" }, "mean"))), h("tbody", null, rows)), `${title}, table`);
}

function heat(part) {
  const at = Math.min(1, Math.max(0, part));
  const mix = (from, to) => Math.round(from + (to - from) * at);
  return `rgb(${mix(222, 122)} ${mix(235, 4)} ${mix(247, 60)})`;
}
