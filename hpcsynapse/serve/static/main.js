// Which page is shown, and whether the server still answers.

import { ApiError, enter, mayAct, snapshot } from "./api.js";
import { h, replace, setText } from "./dom.js";
import { about, begin, watch } from "./rows.js";
import { go, here, link } from "./router.js";
import { runsView } from "./runs.js";
import { runView } from "./run.js";
import { compareView } from "./compare.js";
import { studiesView } from "./studies.js";
import { nodesView } from "./nodes.js";
import { newView } from "./new.js";
import { helpView } from "./help.js";

const PAGES = {
  runs: ["Runs", runsView], run: ["Run", runView], compare: ["Compare", compareView], studies: ["Studies", studiesView], nodes: ["Nodes", nodesView], new: ["New run", newView], help: ["Help", helpView],
};
const IN_NAV = ["runs", "studies", "nodes", "compare", "help"];
let current = {}, turn = 0, before = "";

async function show() {
  const { page, query } = here(), mine = (turn += 1);
  const main = document.getElementById("main");
  current.leave?.();
  current = {};
  const [title, view] = PAGES[page] || ["There is no such page", null];
  document.title = [[query.name || []].flat().join(", "), title, "hpcsynapse"].filter(Boolean).join(" · ");
  navigation(page);
  if (!view) return replace(main, h("h1", null, title), h("p", null, h("a", { href: link("runs") }, "All runs")));
  main.setAttribute("aria-busy", "true");
  try {
    const found = await view(main, query);
    if (mine === turn) current = found; else found.leave?.();
  } catch (error) {
    if (mine === turn) replace(main, h("h1", null, title), h("p", { role: "alert" }, said(error)));
  } finally { main.removeAttribute("aria-busy"); }
  if (before && before !== page) main.focus({ preventScroll: true });
  before = page;
}

function said(error) {
  if (error instanceof ApiError) return error.message;
  return `A fault of this page: ${error.message}`;
}

function navigation(page) {
  const items = snapshot ? snapshot.pages : [...IN_NAV, ...(mayAct() ? ["new"] : [])].map((name) => [PAGES[name][0], link(name), name]);
  replace(document.getElementById("nav"), items.map(([label, href, name]) => h("a", { href, "aria-current": name === page ? "page" : null }, label)));
}

let first = "";
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input:not([type=checkbox]):not([type=radio]), select, textarea");
  if (current.keys && (!typing || event.key.startsWith("Arrow")) && !event.target.closest("select, textarea, [type=radio]") && current.keys(event)) { event.preventDefault(); return; }
  if (typing) return;
  if (event.key === "?") go("help", {});
  else if (first === "g" && event.key === "r") go("runs", {});
  else if (first === "g" && event.key === "s") go("studies", {});
  else if (first === "g" && event.key === "n") go("nodes", {});
  first = event.key;
});

async function start() {
  const main = document.getElementById("main");
  const banner = h("p", { id: "banner", role: "alert", hidden: true });
  main.before(banner);
  try {
    await enter();
    await begin();
  } catch (error) {
    return replace(main, h("h1", null, "hpcsynapse"), h("p", { role: "alert" }, said(error)));
  }
  watch(() => {
    banner.hidden = !about.lost;
    setText(banner, !about.lost ? "" : snapshot ? `${snapshot.beside.file} is not beside this page: what is shown does not change.`
      : "The connection is gone; it is tried again. If the ssh line has ended, type it again.");
  });
  window.addEventListener("hashchange", show);
  if (snapshot) {
    const made = h("p", { class: "made" });
    const tellMade = () => setText(made, `As it was on ${new Date(snapshot.made * 1000).toLocaleString("en-GB")}: ${
      snapshot.beside && !snapshot.ended ? "renewed while hpcsynapse snapshot --follow goes on" : "nothing here changes"}.`);
    main.before(made);
    tellMade();
    watch(tellMade);
    if (!location.hash) history.replaceState(null, "", snapshot.pages[0][1]);
  }
  return show();
}

start();
