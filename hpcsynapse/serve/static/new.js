// A new run: a form made from the settings; before anything is sent, the job file and what the checks say.

import { act, get, mayAct } from "./api.js";
import { h, replace, section } from "./dom.js";
import { ask } from "./actions.js";
import { go } from "./router.js";

const FIRST = ["resources.nodes", "resources.gpus", "resources.ranks_per_node", "resources.cpus", "resources.mem", "resources.time", "queue.scheduler", "queue.partition", "queue.account"];
const TRAINER = ["train.model", "train.data", "train.strategy", "train.engine", "train.batch", "train.epochs", "train.lr", "train.optimizer"];
const TITLES = { resources: "Resources", queue: "Queue", launch: "Launch", train: "Built-in trainer", exchange: "Exchange between ranks", ps: "Parameter servers", dual: "Dual nets" };

export async function newView(main) {
  if (!mayAct()) {
    replace(main, h("h1", null, "New run"), h("p", null, "This server shows runs and starts none; hpcsynapse serve --allow-actions does."));
    return {};
  }
  const known = await get("settings"), inputs = new Map();
  const byPath = new Map(known.map((one) => [one.path, one]));
  const command = h("input", { id: "command", autocomplete: "off", spellcheck: "false", "aria-describedby": "command-help" });
  const name = h("input", { id: "name", autocomplete: "off", spellcheck: "false" });
  const fieldOf = (path) => field(byPath.get(path), inputs);
  const used = new Set([...FIRST, ...TRAINER]);
  const rest = Object.entries(TITLES).map(([key, title]) => {
    const own = known.filter((one) => one.path.startsWith(`${key}.`) && !used.has(one.path));
    return own.length ? h("details", null, h("summary", null, `More: ${title}`), h("div", { class: "form" }, own.map((one) => field(one, inputs)))) : null;
  });
  const found = h("div", { role: "status" }), submit = h("button", { type: "submit", class: "primary", disabled: true }, "Submit");
  const request = () => ({
    name: name.value.trim() || null, command: command.value,
    settings: Object.fromEntries([...inputs].map(([path, input]) => [path, input.value.trim()]).filter(([, value]) => value !== "")),
  });
  const look = async () => {
    submit.disabled = true;
    try {
      const answer = await act("check", { ...request(), once: crypto.randomUUID() });
      const wrong = answer.findings.filter((one) => one.level === "error");
      replace(found, findings(answer), h("h3", null, "Job file"), h("pre", { class: "log", tabindex: "0", role: "region", "aria-label": "Job file" }, answer.job_file || "There is none."));
      submit.disabled = wrong.length > 0;
    } catch (error) {
      replace(found, h("p", { class: "bad", role: "alert" }, error.message.split("\n").map((line) => h("span", { class: "reason bad" }, line))));
    }
  };
  const send = (event) => {
    event.preventDefault();
    const wanted = request();
    ask(`Submit ${wanted.name || "this run"}?`, h("p", null, "It is given to the queue as it was checked."), "Submit", false,
      (once) => act("submit", { ...wanted, once }), (done) => go("run", { name: done.name }));
  };
  const form = h("form", { onsubmit: send, oninput: () => { submit.disabled = true; } },
    h("div", { class: "form" }, h("div", { class: "field" }, h("label", { for: "name" }, "Name"), name, h("small", null, "of the run; generated where left empty")),
      h("div", { class: "field" }, h("label", { for: "command" }, "Command"), command, h("small", { id: "command-help" }, "your own program, as behind -- ; left empty: the built-in trainer"))),
    h("h2", null, "Resources and queue"), h("div", { class: "form" }, FIRST.map(fieldOf)),
    h("h2", null, "Built-in trainer"), h("div", { class: "form" }, TRAINER.map(fieldOf)), rest,
    h("div", { class: "tools" }, h("button", { type: "button", onclick: look }, "Check and show the job file"), submit));
  replace(main, h("h1", null, "New run"), h("p", null, "What is left empty comes from your site file and hpcsynapse.toml, else from the defaults shown."), form, section("What would be submitted", found));
  replace(found, h("p", { class: "words" }, "Check it first: that submits nothing."));
  return {};
}

function findings({ findings: found }) {
  const sign = { error: ["FAILED", "bad"], warning: ["warning", "wait"], ok: ["ok", "good"] };
  const order = ["error", "warning", "ok"];
  const sorted = [...found].sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
  return h("ul", { class: "findings" }, sorted.map((one) => h("li", null, h("strong", { class: (sign[one.level] || sign.ok)[1] }, one.level === "error" ? "error" : one.level), ` ${one.where}: ${one.message}`)));
}

function field(one, inputs) {
  const id = `setting-${one.path}`, help = `${id}-help`;
  const attributes = { id, "aria-describedby": help };
  const options = one.kind === "choice" ? one.choices : one.kind === "switch" ? ["true", "false"] : null;
  const input = options ? h("select", attributes, h("option", { value: "" }, one.default ? `as it is (${one.default})` : "as it is"), options.map((text) => h("option", { value: text }, text)))
    : h("input", { ...attributes, autocomplete: "off", spellcheck: "false", inputmode: one.kind === "integer" ? "numeric" : null, placeholder: one.default });
  inputs.set(one.path, input);
  const how = { list: " (a list: [\"a\", \"b\"])", table: " (a table: { key = \"value\" })" }[one.kind] || "";
  return h("div", { class: "field" }, h("label", { for: id }, one.path.replace(/^[a-z]+\./, "").replaceAll("_", " ")), input, h("small", { id: help }, one.help + how));
}

