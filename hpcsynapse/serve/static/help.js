// Help: what keys do, what states mean, and what else there is beside runs.

import { get, snapshot } from "./api.js";
import { badge, h, replace, scrolling, section } from "./dom.js";
import { storeSection } from "./store.js";

const STATES = [
  ["CREATED", "its folder has been made; no queue has it"], ["QUEUED", "it waits in the queue"], ["SETUP", "its job has begun, its ranks find one another"],
  ["TRAINING", "its program runs"], ["EVALUATING", "it validates"], ["SAVING", "it writes a checkpoint"], ["FINISHING", "its program has ended, its job not yet"],
  ["SUSPENDED", "the queue holds it still"], ["PREEMPTED", "the queue has put it back; it goes on later"], ["FINISHED", "it has come to its end"],
  ["STOPPED", "it was stopped or cancelled; resume goes on"], ["FAILED", "it ended with an error"], ["LOST", "its queue has forgotten it, and it left no word"],
  ["UNKNOWN", "nobody knows whether its queue has it"],
];
const KEYS = [["/", "search"], ["j, k, ↓, ↑", "from run to run"], ["Enter", "open it"], ["g r", "runs"], ["g s", "studies"], ["g n", "nodes"], ["?", "this page"]];

export async function helpView(main) {
  const catalog = h("div");
  replace(main, h("h1", null, "Help"),
    section("Keys", list("What keys do", ["Key", "Does"], KEYS.map(([key, text]) => [h("kbd", null, key), text]))),
    section("States", list("States of a run", ["State", "Means"], STATES.map(([state, text]) => [badge(state), text]))),
    section("What the figures mean", h("p", null, "Samples a second counts the samples of all ranks. Loss, step time and phases are rank 0’s, as it recorded them. The time before the collective is what a rank needs in a step until it waits for the others: who is slow is seen there. Speedup and efficiency are those of the command report, with the same intervals; fractions of less than 100 % are named in “where the time went”.")),
    catalog);
  if (!snapshot) await beside(catalog);
  return {};
}

async function beside(element) {
  const [store, sites, templates] = await Promise.all([storeSection(), get("sites"), get("templates")]);
  replace(element,
    store,
    section("Sites", h("p", null, "Site files that come with hpcsynapse:"), sites.map((one) => file(one.name, one.text))),
    section("Job templates", templates.map((one) => file(`${one.queue}: ${one.summary}`, one.text))));
}

function file(title, text) {
  return h("details", null, h("summary", null, title), h("pre", { class: "log", tabindex: "0", role: "region", "aria-label": title }, text));
}

function list(caption, heads, lines) {
  return scrolling(h("table", null, h("caption", { class: "hidden" }, caption), h("thead", null, h("tr", null, heads.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", null, lines.map(([first, ...rest]) => h("tr", null, h("th", { scope: "row" }, first), rest.map((one) => h("td", null, one)))))), caption);
}
