// Studies: how far each is; and one of them with its runs, its report, and what more ranks would bring.

import { get, snapshot } from "./api.js";
import { badge, dataTable, h, moment, number, plural, replace, scrolling, section } from "./dom.js";
import { done } from "./runs.js";
import { rows, sorted, watch } from "./rows.js";
import { link } from "./router.js";
import { reportSections } from "./report.js";

export async function studiesView(main, { name }) {
  return name ? oneStudy(main, name) : allStudies(main);
}

function states(study) {
  const known = Object.entries(study.states);
  return known.length ? known.map(([state, count]) => h("span", { class: "pair" }, badge(state), ` ${count} `)) : "none of its runs has been made";
}

async function allStudies(main) {
  const place = h("div");
  replace(main, h("h1", null, "Studies"), place);
  const show = async () => {
    const found = await get("studies");
    if (!found.length) return replace(place, h("p", null, "There are no studies yet; hpcsynapse study makes one."));
    const lines = found.map((one) => h("tr", null, h("th", { scope: "row" }, h("a", { href: link("studies", { name: one.name }) }, one.name)),
      h("td", null, `${one.states.FINISHED || 0} of ${one.size} finished`), h("td", null, states(one)), h("td", null, moment(one.since))));
    return replace(place, scrolling(h("table", null, h("caption", { class: "hidden" }, "Studies"),
      h("thead", null, h("tr", null, ["Study", "Runs", "States", "Last change"].map((text) => h("th", { scope: "col" }, text)))), h("tbody", null, lines)), "Studies"));
  };
  await show();
  return { leave: watch((names) => { if ([...names].some((one) => one.includes("/"))) show().catch(() => {}); }) };
}

async function oneStudy(main, name) {
  const list = h("div"), report = h("div"), more = h("div");
  replace(main, h("h1", null, `Study ${name}`), list, report, more);
  const show = () => {
    const own = sorted().filter((row) => row.study === name);
    const lines = own.map((row) => h("tr", null, h("th", { scope: "row" }, h("a", { href: link("run", { name: row.name }) }, row.name.slice(name.length + 1))),
      h("td", null, badge(row.state), row.reason ? h("span", { class: "reason" }, row.reason) : null), h("td", { class: "right" }, done(row)),
      h("td", { class: "right" }, number(row.samples_per_s)), h("td", { class: "right" }, row.ranks ? `${row.nodes} × ${row.ranks / row.nodes}` : "")));
    replace(list, section("Runs", h("p", { role: "status" }, `${plural(own.length, "run")}, ${own.filter((row) => row.state === "FINISHED").length} finished`),
      scrolling(h("table", null, h("caption", { class: "hidden" }, "Runs of the study"),
        h("thead", null, h("tr", null, ["Run", "State", "Done", "Samples/s", "Nodes × ranks"].map((text, at) => h("th", { scope: "col", class: at > 1 ? "right" : null }, text)))), h("tbody", null, lines)), "Runs of the study")));
  };
  show();
  const explain = async () => {
    await reportSections(report, [name]);
    try {
      const found = await get("predictions", { name });
      replace(more, section("What more ranks would bring", found.remark ? h("p", { class: "words" }, found.remark) : null, found.found.map((one) => [one.sentences.map((text) => h("p", { class: text.startsWith(" ") ? "words" : null }, text.trim())), dataTable(one.table)])));
    } catch (error) { replace(more, section("What more ranks would bring", h("p", { class: "words" }, error.message))); }
  };
  await explain();
  const renew = (names) => {
    if (![...names].some((one) => rows.get(one)?.study === name)) return;
    show();
    if (snapshot) explain().catch(() => {});
  };
  return { leave: watch(renew) };
}
