// The load of nodes, now and over time; the same words as the command nodes has.

import { get, snapshot } from "./api.js";
import { dataTable, h, number, replace, section } from "./dom.js";
import { lineChart } from "./charts.js";

const EVERY = 3000;
const PERCENT = (value) => `${(100 * value).toFixed(0)}%`;
const CHARTS = [
  ["cpu", "CPU, share of all cores", PERCENT], ["memory", "Memory, share of the node’s", PERCENT], ["gpu", "GPUs, time in which kernels ran", PERCENT],
  ["gpu_memory", "GPU memory, share in use", PERCENT], ["power_w", "Power of the GPUs", (value) => `${number(value)} W`],
  ["received_mb_s", "Received", (value) => `${number(value)} MB/s`], ["sent_mb_s", "Sent", (value) => `${number(value)} MB/s`],
];

export async function nodesView(main) {
  const place = h("div");
  replace(main, h("h1", null, "Nodes"), place);
  const show = async () => {
    const table = await get("nodes");
    replace(place, table.rows.length ? [dataTable(table), h("p", { class: "words" }, "CPU and memory are those of the whole node, which others may use too.")]
      : h("p", null, "No node of a run at work has recorded anything. The page of a run that has ended shows its nodes; hpcsynapse nodes --daemon records a machine outside of jobs."));
  };
  await show();
  const timer = snapshot ? 0 : setInterval(() => { if (!document.hidden) show().catch(() => {}); }, EVERY);
  return { leave: () => clearInterval(timer) };
}

export function nodesSection(name) {
  const place = h("div"), pictures = h("div", { class: "charts" });
  const element = section("Nodes", place, pictures);
  element.hidden = true;
  const charts = new Map();
  return {
    element,
    async refresh() {
      const [table, found] = await Promise.all([get("nodes", { name }), get("history", { name })]);
      element.hidden = !table.rows.length;
      if (element.hidden) return;
      replace(place, dataTable(table));
      const begin = Math.min(...found.flatMap((one) => one.time));
      for (const [key, title, format] of CHARTS) {
        const series = found.map((one) => ({ name: one.node, points: one.values[key].map((value, at) => [(one.time[at] - begin) / 60, value]) }));
        if (!series.some((one) => one.points.some((point) => point[1] !== null))) continue;
        if (!charts.has(key)) {
          charts.set(key, lineChart({ title, x: "minutes", y: title, format, zero: true }));
          pictures.append(charts.get(key).element);
        }
        charts.get(key).update(series);
      }
    },
  };
}
