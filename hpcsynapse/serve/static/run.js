// One run: what it is doing and why, how it gets on, who is slow, where its ranks are, what they print.

import { get, path, snapshot } from "./api.js";
import { actions } from "./actions.js";
import { badge, bytes, dataTable, duration, facts, h, isFinal, metric, moment, number, plural, replace, scrolling, section, setText, shortTime } from "./dom.js";
import { heatMap, lineChart } from "./charts.js";
import { logsSection } from "./logs.js";
import { nodesSection } from "./nodes.js";
import { rows, watch } from "./rows.js";

const CURVE_EVERY = 2000, SLOW_EVERY = 30000;

export async function runView(main, { name }) {
  const found = await get("run", { name });
  const isLive = () => !isFinal((rows.get(name) || found.row).state);
  const head = h("div", { class: "head" }), failure = h("div"), lists = h("div");
  const logs = logsSection(name, isLive);
  const curves = curvesSection(name), ranks = ranksSection(name), nodes = nodesSection(name);
  const doing = actions(name, () => (rows.get(name) || found.row).state);
  replace(main, h("h1", null, name), head, doing.element, failure, curves.element, ranks.element, nodes.element, logs.element, lists, textSection(name));
  const showDetail = (detail) => {
    headOf(head, detail);
    replace(failure, failureOf(detail, logs));
    replace(lists, checkpointsOf(detail, name), historyOf(detail));
  };
  showDetail(found);
  const all = [curves.refresh(), ranks.refresh(), placementSection(name, ranks), nodes.refresh(), logs.begin()];
  await Promise.allSettled(all);
  let last = 0, lastSlow = Date.now(), wasLive = isLive(), later = 0;
  const renew = async () => {
    clearTimeout(later);
    const ended = wasLive && !isLive();
    wasLive = isLive();
    const early = last + CURVE_EVERY - Date.now();
    if (!ended && !snapshot && early > 0) { later = setTimeout(() => renew().catch(() => {}), early); return; }
    last = Date.now();
    showDetail(await get("run", { name }));
    await curves.refresh();
    await logs.refresh(ended);
    if (!ended && !snapshot && Date.now() - lastSlow < SLOW_EVERY) return;
    lastSlow = Date.now();
    await ranks.refresh();
    await nodes.refresh();
    if (!ranks.places.childNodes.length) await placementSection(name, ranks);
  };
  const stop = watch((names) => { if (names.has(name)) renew().catch(() => {}); });
  const timer = snapshot ? 0 : setInterval(() => { if (isLive() && !document.hidden) logs.refresh().catch(() => {}); }, 2000);
  return { leave: () => { stop(); doing.leave(); clearInterval(timer); clearTimeout(later); } };
}

function headOf(element, { row, nodes, path: folder, learning_rate: rate, remark, unrecorded, stop_requested: stopping }) {
  const part = row.steps && row.step !== null ? Math.min(1, row.step / row.steps) : null;
  const bar = part === null ? null : h("p", { class: "bar" }, h("progress", { max: 1, value: part, "aria-label": "part that is done" }),
    ` ${Math.floor(100 * part)}%`, !isFinal(row.state) && row.eta_s !== null ? `, ${duration(row.eta_s)} left` : "");
  const sentences = [row.reason, remark, unrecorded, stopping && !isFinal(row.state) ? "It was asked to stop after its step." : ""].filter(Boolean);
  replace(element, h("p", { class: "state-line", role: "status" }, badge(row.state), row.since ? ` since ${moment(row.since)}` : ""),
    sentences.map((text) => h("p", { class: "why" }, text)), bar,
    facts([
      ["Step", row.step === null ? "" : row.steps ? `${row.step} of ${row.steps}` : String(row.step)],
      ["Epoch", row.epochs ? `${row.epoch} of ${row.epochs}` : ""],
      ["Samples per second", number(row.samples_per_s)],
      ["Loss", number(row.loss)],
      ...Object.entries(row.metrics).filter(([key]) => key !== "loss").slice(0, 8).map(([key, value]) => [key.replaceAll("_", " "), metric(key, value)]),
      ["Learning rate", number(rate)],
      ["Model or program", row.model], ["Strategy", row.strategy],
      ["Nodes × ranks", row.ranks ? `${row.nodes} × ${row.ranks / row.nodes}` : ""],
      ["Queue", row.scheduler], ["Job", row.job_id], ["The queue says", row.native_state], ["On nodes", nodes],
      ["Folder", folder],
    ]));
}

function failureOf({ failure }, logs) {
  if (!failure) return null;
  return section("First failure", h("p", { class: "why bad" }, `Rank ${failure.rank} on ${failure.host} failed first: ${failure.reason}`),
    failure.log.length ? h("pre", { class: "log short", tabindex: "0", role: "region", "aria-label": "Last lines of the rank that failed first" }, failure.log.join("\n")) : null,
    snapshot ? null : h("p", null, h("button", { type: "button", onclick: () => logs.open(`rank-${String(failure.rank).padStart(5, "0")}`) }, "Show its whole log")));
}

function curvesSection(name) {
  const loss = lineChart({ title: "Training loss", x: "step", y: "loss" });
  const step = lineChart({ title: "Step time of rank 0", x: "step", y: "time", format: shortTime, zero: true });
  const rate = lineChart({ title: "Samples a second, all ranks as fast as rank 0", x: "step", y: "samples/s", zero: true });
  const metrics = h("div", { class: "charts" }), known = new Map();
  const note = h("p", { class: "words" });
  const element = section("Curves", note, h("div", { class: "charts" }, loss.element, rate.element, step.element), metrics);
  return {
    element,
    async refresh() {
      const found = await get("curve", { name });
      setText(note, found.steps ? `${plural(found.steps, "step")} of rank 0; a point is the mean of ${found.of} of its steps at most.` : "No step has been recorded yet.");
      const points = (values) => values.map((value, at) => [found.step[at], value]);
      loss.update([{ name: "", points: points(found.loss) }]);
      rate.update([{ name: "", points: points(found.samples_per_s) }]);
      const phases = Object.entries(found.phases).filter(([, values]) => values.some((value) => value > 0));
      step.update([{ name: "whole step", points: points(found.total) }, ...phases.map(([phase, values]) => ({ name: phase, points: points(values) }))]);
      for (const [key, values] of Object.entries(found.metrics)) {
        if (!known.has(key)) {
          const title = `Validation: ${key.replaceAll("_", " ")}`;
          known.set(key, lineChart({ title, x: "step", y: key, format: (value) => metric(key, value) }));
          metrics.append(known.get(key).element);
        }
        known.get(key).update([{ name: "", points: values }]);
      }
    },
  };
}

function ranksSection(name) {
  const slow = h("div"), picture = h("div"), places = h("div");
  const measure = h("select", { id: "measure", onchange: () => draw() },
    h("option", { value: "before" }, "time before the collective"), h("option", { value: "total" }, "whole step"), h("option", { value: "data" }, "wait for data"));
  const element = section("Ranks", slow, h("div", { class: "tools" }, h("div", { class: "field" }, h("label", { for: "measure" }, "Picture of"), measure)), picture, places);
  const draw = async () => {
    try {
      const found = await get("steps", { name, measure: measure.value });
      if (!found.step.length) return replace(picture, h("p", { class: "words" }, "No step has been recorded yet."));
      return replace(picture, heatMap(`Every rank: ${measure.selectedOptions[0].textContent}`, found, shortTime));
    } catch (error) { return replace(picture, h("p", { class: "words" }, error.message)); }
  };
  return {
    element, places,
    async refresh() {
      await draw();
      try {
        const found = await get("stragglers", { name });
        const said = found.slow.length ? found.slow.map((one) => h("li", null, one.sentence)) : null;
        replace(slow, said ? [h("p", null, `${plural(found.slow.length, "slow rank")}:`), h("ul", null, said)]
          : h("p", null, found.remarks.length ? found.remarks.join(" ") : "No rank is slow."),
        found.table.rows.length ? h("details", null, h("summary", null, "All ranks as a table"), dataTable(found.table)) : null);
      } catch (error) { replace(slow, h("p", { class: "words" }, error.message)); }
    },
  };
}

async function placementSection(name, { places }) {
  const found = await get("placement", { name });
  if (!found.ranks.length) return;
  const hosts = Map.groupBy ? Map.groupBy(found.ranks, (one) => one.host) : grouped(found.ranks);
  const rowsOf = [...hosts].map(([host, ranks]) => h("tr", null, h("th", { scope: "row" }, host),
    h("td", null, h("ul", { class: "places" }, ranks.map((one) => h("li", null, h("strong", null, `rank ${one.rank}`), ` ${placeOf(one)}`))))));
  replace(places, h("h3", null, "Placement"),
    h("p", null, found.problem || (found.verified ? "Every rank is where it was asked to be, by its own evidence." : "The places were not compared with what was asked for.")),
    scrolling(h("table", null, h("caption", { class: "hidden" }, "Ranks by node"), h("thead", null, h("tr", null, h("th", { scope: "col" }, "Node"), h("th", { scope: "col" }, "Ranks"))), h("tbody", null, rowsOf)), "Placement"),
    found.left_out ? h("p", null, `${plural(found.left_out, "further rank")} left out.`) : null);
}

function grouped(ranks) {
  const found = new Map();
  for (const one of ranks) found.set(one.host, [...(found.get(one.host) || []), one]);
  return found;
}

function placeOf(one) {
  const cpus = one.cpus.length > 4 ? `CPUs ${one.cpus[0]} to ${one.cpus.at(-1)} (${one.cpus.length})` : one.cpus.length ? `CPU ${one.cpus.join(", ")}` : "";
  const numa = one.numa_nodes.length ? `NUMA ${one.numa_nodes.join(", ")}` : "";
  const device = one.device ? [`device ${one.device}`, one.device_name, one.device_uuid].filter(Boolean).join(" ") : "";
  return [cpus, numa, device].filter(Boolean).join(" · ");
}

function checkpointsOf({ checkpoints }, name) {
  const files = snapshot ? null : h("ul", { class: "downloads" },
    h("li", null, h("a", { href: path("archive", { name }), download: true }, "All that it wrote, without checkpoints (zip)")),
    h("li", null, h("a", { href: path("timeline", { name }), download: true }, "Timeline of all ranks, for ui.perfetto.dev")));
  const listed = checkpoints.map((one) => h("tr", null,
    h("th", { scope: "row" }, snapshot ? one.file : h("a", { href: path("checkpoint", { name, file: one.file }), download: true }, one.file)),
    h("td", { class: "right" }, one.step === null ? "" : String(one.step)), h("td", { class: "right" }, bytes(one.size)), h("td", null, moment(one.time))));
  const table = checkpoints.length ? scrolling(h("table", null, h("caption", { class: "hidden" }, "Checkpoints"),
    h("thead", null, h("tr", null, ["File", "Step", "Size", "Written"].map((text, at) => h("th", { scope: "col", class: at === 1 || at === 2 ? "right" : null }, text)))), h("tbody", null, listed)), "Checkpoints") : h("p", { class: "words" }, "There is no checkpoint.");
  return section("Checkpoints and files", table, files);
}

function historyOf({ history }) {
  const lines = history.map((one) => h("li", null, `${moment(one.time)} ${one.state}${one.reason ? `: ${one.reason}` : ""}`));
  return section("History", h("details", null, h("summary", null, plural(history.length, "state")), h("ol", null, lines)));
}

function textSection(name) {
  const place = h("div");
  const element = section("Description and job file", h("details", { ontoggle: (event) => {
    if (!event.target.open || place.childNodes.length) return;
    get("text", { name }).then((found) => replace(place, ["description", "job_file"].map((key) => [h("h3", null, key === "description" ? "run.toml" : "Job file"),
      h("pre", { class: "log", tabindex: "0", role: "region", "aria-label": key === "description" ? "Description" : "Job file" }, found[key])])),
    (error) => replace(place, error.message));
  } }, h("summary", null, "As they were submitted"), place));
  element.hidden = Boolean(snapshot) && !(path("text", { name }) in snapshot.answers);
  return element;
}
