// A scaling report as sentences, pictures and tables, as the command `report` has them.

import { get } from "./api.js";
import { dataTable, h, replace, section } from "./dom.js";
import { lineChart } from "./charts.js";

export async function reportSections(element, names) {
  let found;
  try {
    found = await get("report", { name: names });
  } catch (error) {
    replace(element, section("Speedup and efficiency", h("p", { class: "words" }, error.message)));
    return;
  }
  const notes = [...found.warnings.map((text) => `Warning: ${text}`), ...found.caveats, ...found.hints.map((text) => `Hint: ${text}`)];
  const pictures = new Set(found.marks.map((one) => one.ranks)).size > 1 ? h("div", { class: "charts" }, speedup(found.marks), efficiency(found.marks)) : null;
  replace(element, section("Speedup and efficiency", found.summary.map((text) => h("p", null, text)), notes.length ? h("ul", null, notes.map((text) => h("li", null, text))) : null, pictures, dataTable(found.table)),
    found.why.length ? section("Where the time went", found.why.map((table) => dataTable(table))) : null,
    found.slow.length ? section("Slow ranks", h("ul", null, found.slow.map((text) => h("li", null, text)))) : null);
}

function seriesOf(marks, value) {
  const found = new Map();
  for (const one of marks) found.set(one.series, [...(found.get(one.series) || []), one]);
  return [...found].map(([name, own]) => {
    const ordered = own.sort((a, b) => a.ranks - b.ranks);
    const ends = ordered.filter((one) => one[`${value}_low`] !== null);
    return { name, points: ordered.map((one) => [one.ranks, one[value]]), band: ends.map((one) => [one.ranks, one[`${value}_low`], one[`${value}_high`]]) };
  });
}

function speedup(marks) {
  const chart = lineChart({ title: "Speedup, with 95 % intervals", x: "ranks", y: "speedup", zero: true, format: (value) => `${value.toFixed(2)}×` });
  const ranks = [...new Set(marks.map((one) => one.ranks))].sort((a, b) => a - b);
  const ideal = { name: "ideal", points: ranks.map((count) => [count, count / ranks[0]]) };
  chart.update([...seriesOf(marks, "speedup"), ideal]);
  return chart.element;
}

function efficiency(marks) {
  const chart = lineChart({ title: "Efficiency, with 95 % intervals", x: "ranks", y: "efficiency", zero: true, format: (value) => `${(100 * value).toFixed(0)}%` });
  chart.update(seriesOf(marks, "efficiency"));
  return chart.element;
}
