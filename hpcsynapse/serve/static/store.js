// The store: models, loaders and data sets; where actions are allowed, also put in as zip archives, and removed.

import { act, get, mayAct, send } from "./api.js";
import { bytes, h, moment, replace, scrolling, section } from "./dom.js";
import { ask } from "./actions.js";

export async function storeSection() {
  const place = h("div");
  await show(place);
  return section("Store", place, mayAct() ? adding(place) : null);
}

async function show(place) {
  const found = await get("store");
  if (!found.length) return replace(place, h("p", null, "The store is empty; hpcsynapse store add puts models, loaders and data sets there."));
  const heads = ["Name", "Kind", "Size", "Added", "By", "What it is", ...(mayAct() ? ["Remove"] : [])];
  const lines = found.map((one) => h("tr", null, h("th", { scope: "row" }, one.name), [one.kind, bytes(one.size), moment(one.added), one.user, one.description].map((text) => h("td", null, text)),
    mayAct() ? h("td", null, h("button", { type: "button", class: "danger", "aria-label": `Remove ${one.kind} ${one.name}`, onclick: () => remove(one, place) }, "Remove")) : null));
  return replace(place, scrolling(h("table", null, h("caption", { class: "hidden" }, "Models, loaders and data sets"),
    h("thead", null, h("tr", null, heads.map((text) => h("th", { scope: "col" }, text)))), h("tbody", null, lines)), "Models, loaders and data sets"));
}

function remove(one, place) {
  ask(`Remove ${one.kind} ${one.name}?`, h("p", null, "Runs that still need it will fail."), "Remove", true,
    (once) => act("store-remove", { kind: one.kind, name: one.name, once }), () => show(place));
}

function adding(place) {
  const kind = h("select", { id: "kind" }, ["model", "loader", "dataset"].map((text) => h("option", { value: text }, text)));
  const name = h("input", { id: "entry", autocomplete: "off", required: true }), file = h("input", { id: "archive", type: "file", accept: ".zip", required: true });
  const told = h("p", { role: "status" }), button = h("button", { type: "submit" }, "Add");
  const form = h("form", { class: "tools", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    replace(told, "It is being sent.");
    try {
      const done = await send("store-add", { kind: kind.value, name: name.value, once: crypto.randomUUID() }, file.files[0]);
      replace(told, `${done.name} added: ${done.said.join(" ")}.`);
      await show(place);
    } catch (error) { replace(told, error.message); }
    button.disabled = false;
  } }, [["kind", "Kind", kind], ["entry", "Name", name], ["archive", "Zip archive", file]].map(([id, label, input]) => h("div", { class: "field" }, h("label", { for: id }, label), input)), button);
  return [h("h3", null, "Add"), form, told];
}
