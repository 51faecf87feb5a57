// The list of runs: search, filter, sort; the address holds all of it, so a link shows the same list.

import { badge, duration, h, isFinal, metric, moment, number, plural, replace, setText, stateKind } from "./dom.js";
import { about, rows, sorted, watch } from "./rows.js";
import { go, link } from "./router.js";

const PAGE = 100;
const GROUPS = { all: "All", live: "Going on", wait: "Waiting", good: "Finished", bad: "Failed" };
const COLUMNS = [
  { key: "name", head: "Run", text: (row) => row.name },
  { key: "state", head: "State" },
  { key: "done", head: "Done", right: true, value: (row) => (row.steps ? row.step / row.steps : -1) },
  { key: "eta_s", head: "Left", right: true, text: (row) => (isFinal(row.state) ? "" : duration(row.eta_s)) },
  { key: "samples_per_s", head: "Samples/s", right: true, text: (row) => number(row.samples_per_s) },
  { key: "loss", head: "Loss", right: true, text: (row) => number(row.loss) },
  { key: "accuracy", head: "Accuracy", right: true, value: (row) => row.metrics.accuracy ?? -1, text: (row) => metric("accuracy", row.metrics.accuracy) },
  { key: "ranks", head: "Nodes × ranks", right: true, text: (row) => (row.ranks ? `${row.nodes} × ${row.ranks / row.nodes}` : "") },
  { key: "model", head: "Model or program", text: (row) => [row.model, row.strategy].filter(Boolean).join(", ") },
  { key: "job_id", head: "Job", text: (row) => row.job_id },
  { key: "since", head: "Since", right: true, text: (row) => moment(row.since) },
];

function group(row) {
  if (row.state === "STOPPED") return "wait-ended";
  return stateKind(row.state);
}

function matches(row, words, wanted) {
  if (wanted !== "all" && group(row) !== wanted) return false;
  if (!words.length) return true;
  const text = `${row.name} ${row.state} ${row.model} ${row.strategy} ${row.job_id} ${row.reason}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function ordered(found, sort) {
  const key = sort.replace(/^-/, ""), column = COLUMNS.find((one) => one.key === key);
  if (!column) return found;
  const value = column.value || ((row) => row[key]);
  const up = sort.startsWith("-") ? -1 : 1;
  return found.map((row) => [value(row), row]).sort(([a], [b]) => {
    if (a === b) return 0;
    if (a === null || a === undefined) return 1;
    if (b === null || b === undefined) return -1;
    return a < b ? -up : up;
  }).map(([, row]) => row);
}

export function runsView(main, query) {
  let { q = "", state = "all", sort = "" } = query, most = PAGE;
  const chosen = new Set();
  const search = h("input", { type: "search", id: "search", value: q, autocomplete: "off", spellcheck: "false", "aria-describedby": "count" });
  const count = h("p", { id: "count", role: "status" });
  const body = h("tbody"), heads = new Map();
  const more = h("button", { type: "button", onclick: () => { most += PAGE; show(); } }, "Show more");
  const compare = h("button", { type: "button", disabled: true, onclick: () => go("compare", { name: [...chosen] }) }, "Compare");
  const filters = Object.entries(GROUPS).map(([key, label]) => h("label", { class: "chip" },
    h("input", { type: "radio", name: "state", value: key, checked: key === state, onchange: () => { state = key; most = PAGE; kept(); show(); } }), label));
  const head = h("tr", null, h("th", { scope: "col" }, h("span", { class: "hidden" }, "Compare")), COLUMNS.map((column) => {
    const button = h("button", { type: "button", onclick: () => { sort = sort === column.key ? `-${column.key}` : sort === `-${column.key}` ? "" : column.key; kept(); show(); } }, column.head);
    const cell = h("th", { scope: "col", class: column.right ? "right" : null }, button);
    heads.set(column.key, cell);
    return cell;
  }));
  const kept = () => history.replaceState(null, "", link("runs", { q: search.value || null, state: state === "all" ? null : state, sort: sort || null }));
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = ordered(sorted().filter((row) => matches(row, words, state)), sort);
    for (const [key, cell] of heads) {
      const order = sort === key ? "ascending" : sort === `-${key}` ? "descending" : null;
      if (order) cell.setAttribute("aria-sort", order); else cell.removeAttribute("aria-sort");
    }
    const focused = document.activeElement && body.contains(document.activeElement) ? document.activeElement.id : "";
    replace(body, found.slice(0, most).map((row) => line(row, chosen, () => { compare.disabled = chosen.size < 2; })));
    if (focused) document.getElementById(focused)?.focus();
    more.hidden = found.length <= most;
    setText(count, told(found.length));
    compare.disabled = chosen.size < 2;
  };
  search.addEventListener("input", () => { most = PAGE; kept(); show(); });
  replace(main, h("h1", null, "Runs"),
    h("form", { class: "tools", role: "search", onsubmit: (event) => event.preventDefault() },
      h("div", { class: "field" }, h("label", { for: "search" }, "Search"), search),
      h("fieldset", null, h("legend", { class: "hidden" }, "State"), filters), compare),
    count, h("table", { class: "runs" }, h("caption", { class: "hidden" }, "Runs, newest first unless sorted"), h("thead", null, head), body), more);
  show();
  return { leave: watch(show), keys: keysOf(search, body) };
}

function told(found) {
  const unread = about.unread ? `; ${plural(about.unread, "older run")} still being read` : "";
  if (!rows.size) return about.unread ? "The runs are being read." : `There are no runs in ${about.folder} yet; hpcsynapse submit makes one.`;
  return found === rows.size ? `${plural(found, "run")} in ${about.folder}${unread}` : `${found.toLocaleString("en")} of ${plural(rows.size, "run")}${unread}`;
}

function line(row, chosen, tell) {
  const box = h("input", { type: "checkbox", "aria-label": `compare ${row.name}`, checked: chosen.has(row.name), id: `compare-${row.name}`, onchange: () => {
    if (box.checked) chosen.add(row.name); else chosen.delete(row.name);
    tell();
  } });
  return h("tr", null, h("td", null, box), COLUMNS.map((column) => {
    if (column.key === "name") return h("th", { scope: "row" }, h("a", { href: link("run", { name: row.name }), id: `run-${row.name}` }, row.name));
    if (column.key === "state") return h("td", { "data-head": column.head }, badge(row.state), row.reason ? h("span", { class: "reason" }, row.reason) : null);
    if (column.key === "done") return h("td", { class: "right", "data-head": column.head }, done(row));
    return h("td", { class: column.right ? "right" : null, "data-head": column.head }, column.text(row));
  }));
}

export function done(row) {
  if (!row.steps || row.step === null) return row.step === null ? "" : `step ${row.step}`;
  const part = Math.min(1, row.step / row.steps);
  return h("span", null, h("progress", { max: 1, value: part, "aria-label": `part of ${row.name} that is done` }), ` ${Math.floor(100 * part)}%`);
}

// j and k, or the arrows, go from run to run; / goes to the search.
function keysOf(search, body) {
  return (event) => {
    if (event.key === "/" && document.activeElement !== search) { search.focus(); search.select(); return true; }
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
    if (!step || (document.activeElement === search && event.key.length === 1)) return false;
    const links = [...body.querySelectorAll("th a")];
    const at = links.indexOf(document.activeElement);
    links[Math.min(links.length - 1, Math.max(0, at + step))]?.focus();
    return true;
  };
}
