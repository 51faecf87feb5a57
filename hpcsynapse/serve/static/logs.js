// Logs of a run: any of them from its end, followed while the run goes on; or the ends of all of them.

import { get, snapshot } from "./api.js";
import { bytes, h, replace, section, setText } from "./dom.js";

const MOST = 2_000_000; // characters that are kept
const MOST_ENDS = 64; // logs whose ends are shown together

export function logsSection(name, isLive) {
  const choice = h("select", { id: "log" });
  const wrap = h("input", { type: "checkbox", id: "wrap", checked: true, onchange: () => text.classList.toggle("nowrap", !wrap.checked) });
  const place = h("p", { class: "words" });
  const text = h("pre", { class: "log", tabindex: "0", role: "region", "aria-label": "Log" });
  const earlier = h("button", { type: "button", onclick: () => before().catch(failed) }, "Show earlier lines");
  let begin = 0, end = 0, shown = "", busy = false, listed = [];
  const failed = (error) => setText(place, error.message);
  const tell = (size) => setText(place, size ? `${bytes(end - begin)} of ${bytes(size)} shown` : "nothing has been printed");

  async function start() {
    shown = choice.value;
    replace(text);
    if (shown === "all") return ends();
    const part = await get("log", { name, log: shown });
    [begin, end] = [part.begin, part.end];
    text.append(part.text);
    earlier.hidden = begin === 0 || Boolean(snapshot);
    tell(part.size);
    text.scrollTop = text.scrollHeight;
  }

  async function ends() {
    earlier.hidden = true;
    let count = 0;
    for (const one of listed.filter((log) => log.size).slice(0, MOST_ENDS)) {
      const part = await get("log", { name, log: one.log, length: 2048 });
      if (shown !== "all") return;
      text.append(h("strong", null, `${one.title}\n`), part.text, "\n");
      count += 1;
    }
    setText(place, count ? `the last lines of ${count} logs` : "nothing has been printed");
  }

  async function before() {
    const length = Math.min(begin, 1 << 16);
    const part = await get("log", { name, log: shown, begin: begin - length, length });
    begin = part.begin;
    text.prepend(part.text);
    earlier.hidden = begin === 0;
  }

  async function more() {
    if (busy || !shown || shown === "all") return;
    busy = true;
    try {
      const part = await get("log", { name, log: shown, begin: end, length: 1 << 17 });
      const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
      if (part.end < end) return await start(); // a log that begins afresh
      if (part.text) text.append(part.text);
      end = part.end;
      if (text.textContent.length > MOST) { replace(text, text.textContent.slice(-MOST / 2)); begin = end - MOST / 2; }
      tell(part.size);
      if (atEnd) text.scrollTop = text.scrollHeight;
    } finally { busy = false; }
  }

  async function list() {
    const found = await get("logs", { name });
    element.hidden = Boolean(snapshot) && !found.length;
    if (found.length === listed.length && listed.length) return;
    listed = found;
    const kept = choice.value;
    const wanted = kept || (found.find((one) => one.log === "rank-00000" && one.size) || found[0] || { log: "" }).log;
    replace(choice, found.map((one) => h("option", { value: one.log, selected: one.log === wanted }, one.title)),
      found.length > 1 && !snapshot ? h("option", { value: "all", selected: wanted === "all" }, "ends of all logs") : null);
  }

  choice.addEventListener("change", () => start().catch(failed));
  const element = section("Logs", h("div", { class: "tools" }, h("div", { class: "field" }, h("label", { for: "log" }, "Log"), choice),
    h("label", { class: "chip", for: "wrap" }, wrap, "Break long lines"), earlier), place, text);
  earlier.hidden = true;
  return {
    element,
    async begin() { await list(); if (choice.value) await start(); else setText(place, "there are no logs yet"); },
    async refresh(ended = false) { await list(); if (choice.value && (snapshot || choice.value !== shown)) return start(); return isLive() || ended ? more() : undefined; },
    async open(log) { choice.value = log; await start(); element.scrollIntoView(); },
  };
}
