// Elements made of texts and numbers: whatever a run is called or prints is a text node, never HTML.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  put(element, children);
  return element;
}

function put(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

export function replace(element, ...children) {
  element.replaceChildren();
  put(element, children);
  return element;
}

// Only what differs is written, so that a screen reader and a selection are left alone.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const KINDS = {
  FINISHED: "good", FAILED: "bad", LOST: "bad", UNKNOWN: "bad", STOPPED: "wait", QUEUED: "wait", CREATED: "wait",
  PREEMPTED: "wait", SUSPENDED: "wait",
};
const SIGNS = { good: "✓", bad: "✗", wait: "‖", live: "▶" };
export const FINAL = ["FINISHED", "STOPPED", "FAILED", "LOST"];

export function isFinal(state) { return FINAL.includes(state); }

export function stateKind(state) { return KINDS[state] || "live"; }

export function badge(state) {
  const kind = stateKind(state);
  return h("span", { class: `state ${kind}` }, h("span", { "aria-hidden": "true" }, `${SIGNS[kind]} `), state);
}

export function number(value) {
  if (value === null || value === undefined) return "";
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(2);
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
}

export function metric(name, value) {
  return value === null || value === undefined ? "" : name.endsWith("accuracy") ? `${(100 * value).toFixed(1)}%` : number(value);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.max(0, Math.round(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

export function shortTime(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds === 0) return "0 s";
  if (seconds < 1e-3) return `${number(seconds * 1e6)} µs`;
  return seconds < 1 ? `${number(seconds * 1e3)} ms` : `${number(seconds)} s`;
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1000 && unit < 4) { count /= 1024; unit += 1; }
  return `${unit ? number(count) : count} ${units[unit]}`;
}

export function moment(seconds) {
  if (!seconds) return "";
  const then = new Date(seconds * 1000), now = new Date();
  const two = (value) => String(value).padStart(2, "0");
  const clock = `${two(then.getHours())}:${two(then.getMinutes())}`;
  const day = `${then.getFullYear()}-${two(then.getMonth() + 1)}-${two(then.getDate())}`;
  return then.toDateString() === now.toDateString() ? clock : `${day} ${clock}`;
}

export function plural(count, word) { return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`; }

// A table of the API: its columns, and cells that are texts already.
export function dataTable(table, caption = table.title) {
  if (!table.rows.length) return null;
  const head = table.columns.map((one) => h("th", { scope: "col", class: one.number ? "right" : null, title: one.meaning }, one.head));
  const rows = table.rows.map((row) => h("tr", null, row.map((cell, at) =>
    at === 0 ? h("th", { scope: "row", class: table.columns[at].number ? "right" : null }, cell)
      : h("td", { class: table.columns[at].number ? "right" : null }, cell))));
  const same = table.same ? `. In all rows: ${table.same}.` : "";
  return scrolling(h("table", null, h("caption", null, caption + same), h("thead", null, h("tr", null, head)),
    h("tbody", null, rows)), caption);
}

// What is wider than a screen scrolls by itself, and can be reached with the keyboard.
export function scrolling(element, label) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, element);
}

let lastId = 0;
export function section(title, ...children) {
  const id = `section-${(lastId += 1)}`;
  return h("section", { "aria-labelledby": id }, h("h2", { id }, title), children);
}

export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return h("dl", { class: "facts" }, known.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}
