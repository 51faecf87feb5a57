// Runs set beside one another: their curves in one picture, and the settings in which they differ.

import { get } from "./api.js";
import { badge, h, metric, number, replace, scrolling, section, shortTime } from "./dom.js";
import { lineChart } from "./charts.js";
import { rows } from "./rows.js";
import { link } from "./router.js";
import { reportSections } from "./report.js";

export async function compareView(main, { name }) {
  const names = [name || []].flat();
  replace(main, h("h1", null, "Compare"));
  if (names.length < 2) {
    main.append(h("p", null, "Choose two runs or more in the ", h("a", { href: link("runs") }, "list of runs"), "."));
    return {};
  }
  const list = h("ul", null, names.map((one) => h("li", null, h("a", { href: link("run", { name: one }) }, one), " ", rows.has(one) ? badge(rows.get(one).state) : "")));
  const settings = h("div"), curves = h("div"), report = h("div");
  main.append(list, settings, curves, report);
  const repeats = await differences(settings, names);
  await Promise.all([overlaid(curves, names, repeats), reportSections(report, names)]);
  return {};
}

async function differences(element, names) {
  const found = await get("compare", { name: names });
  const head = h("tr", null, h("th", { scope: "col" }, "Setting"), found.runs.map((one) => h("th", { scope: "col" }, one)));
  const lines = found.settings.map((one, at) => h("tr", null, h("th", { scope: "row" }, one.name), found.values.map((values) => h("td", null, values[at]))));
  replace(element, section("Settings in which they differ",
    lines.length ? scrolling(h("table", null, h("caption", null, `${found.same} other settings are equal.`), h("thead", null, head), h("tbody", null, lines)), "Settings in which they differ")
      : h("p", null, `They are repeats of one another: all ${found.same} settings are equal.`)));
  return !lines.length;
}

async function overlaid(element, names, areRepeats) {
  const answers = await Promise.all(names.map((one) => get("curve", { name: one, points: 200 }).catch(() => null)));
  const known = answers.filter((one) => one && one.steps);
  const chart = (title, y, pick, format = number) => {
    const found = lineChart({ title, x: "step", y, format });
    const series = known.map((one) => ({ name: one.name, points: pick(one) })).filter((one) => one.points.length);
    const repeats = areRepeats && series.length > 1 ? band(series) : null;
    found.update(repeats ? [...series, repeats] : series);
    return series.length ? found.element : null;
  };
  const zipped = (key) => (one) => one[key].map((value, at) => [one.step[at], value]);
  const metrics = [...new Set(known.flatMap((one) => Object.keys(one.metrics)))];
  replace(element, section("Curves", h("div", { class: "charts" }, chart("Training loss", "loss", zipped("loss")),
    chart("Samples a second", "samples/s", zipped("samples_per_s")), chart("Step time of rank 0", "time", zipped("total"), shortTime),
    metrics.map((key) => chart(`Validation: ${key.replaceAll("_", " ")}`, key, (one) => one.metrics[key] || [], (value) => metric(key, value))))));
}

// Mean of the runs at equal steps, with their lowest and highest value as a band; none where they have no step in common.
function band(series) {
  const values = series.map((one) => new Map(one.points.filter((point) => point[1] !== null)));
  const steps = [...values[0].keys()].filter((step) => values.every((one) => one.has(step)));
  if (steps.length < 2) return null;
  const at = (step) => values.map((one) => one.get(step));
  return {
    name: `mean of the ${series.length}, with their range`,
    points: steps.map((step) => [step, at(step).reduce((sum, value) => sum + value, 0) / series.length]),
    band: steps.map((step) => [step, Math.min(...at(step)), Math.max(...at(step))]),
  };
}
