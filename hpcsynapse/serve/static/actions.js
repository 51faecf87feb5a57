// What can be done to a run, where the server was started with --allow-actions: each is confirmed by name, and done once.

import { act, mayAct } from "./api.js";
import { h, isFinal, replace } from "./dom.js";
import { go } from "./router.js";
import { rows, watch } from "./rows.js";

const ACTIONS = {
  stop: { label: "Stop", text: "It finishes its step, saves a checkpoint and ends; resume goes on from there.", shown: (state) => !isFinal(state) && state !== "CREATED" },
  cancel: { label: "Cancel", danger: true, text: "The queue ends it now; what came after its last checkpoint is lost.", shown: (state) => !isFinal(state) && state !== "CREATED" },
  resume: { label: "Resume", text: "It is queued once more, in its own folder, and goes on from its newest checkpoint.", shown: (state) => isFinal(state) || state === "CREATED" },
  remove: { label: "Remove", danger: true, text: "Its folder is deleted for good: records, checkpoints, logs, all of it.", shown: isFinal },
};

export function actions(name, stateOf) {
  if (!mayAct()) return { element: null, leave: () => {} };
  const place = h("div", { class: "tools" }), told = h("div", { role: "status" });
  let before = "";
  const show = () => {
    const row = rows.get(name), state = row ? row.state : stateOf();
    if (state === before) return;
    before = state;
    replace(place, Object.entries(ACTIONS).filter(([, one]) => one.shown(state)).map(([action, one]) =>
      h("button", { type: "button", class: one.danger ? "danger" : null, onclick: () => confirm(action, one, name, told) }, one.label)));
  };
  show();
  return { element: [place, told], leave: watch(show) };
}

function confirm(action, { label, text, danger }, name, told) {
  const time = action === "resume" ? h("input", { id: "limit", autocomplete: "off", placeholder: "as before" }) : null;
  ask(`${label} ${name}?`, [h("p", null, text), time && h("div", { class: "field" }, h("label", { for: "limit" }, "Another time limit, for example 4h"), time)], label, danger,
    (once) => act(action, { name, once, time: time && time.value ? time.value : null }),
    (done) => action === "remove" ? go("runs", {}) : replace(told, [`${label}: done.`, ...done.said].map((line) => h("p", null, line))));
}

// A question with one answer: the word `once` belongs to it, so that it is carried out once however often it is sent.
export function ask(title, content, label, danger, carryOut, then) {
  const once = crypto.randomUUID(), problem = h("p", { role: "alert", class: "bad" });
  const yes = h("button", { type: "button", class: danger ? "danger" : "primary", onclick: async () => {
    yes.disabled = true;
    try {
      const done = await carryOut(once);
      dialog.close();
      then(done);
    } catch (error) {
      replace(problem, error.message);
    }
  } }, label);
  const dialog = h("dialog", { "aria-labelledby": "question" }, h("h2", { id: "question" }, title), content, problem,
    h("div", { class: "tools" }, yes, h("button", { type: "button", onclick: () => dialog.close() }, "Do nothing")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
