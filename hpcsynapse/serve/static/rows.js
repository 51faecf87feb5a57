// The rows of all runs, as the server told them and changed them since; every view reads them here.

import { follow, get } from "./api.js";

export const rows = new Map();
export const about = { folder: "", unread: 0, changed: 0, lost: false };
const watching = new Set();

export function watch(tell) {
  watching.add(tell);
  return () => watching.delete(tell);
}

function told(names) { for (const tell of [...watching]) tell(names); }

function take(answer) {
  const names = new Set();
  for (const row of answer.runs) { rows.set(row.name, row); names.add(row.name); }
  for (const name of answer.gone) { rows.delete(name); names.add(name); }
  Object.assign(about, { folder: answer.folder, unread: answer.unread, changed: answer.changed });
  told(names);
}

async function afresh() {
  const answer = await get("runs");
  rows.clear();
  take(answer);
}

export async function begin() {
  await afresh();
  follow(about.changed, (kind, answer) => {
    if (kind === "runs") take(answer);
    if (kind === "again") afresh().catch(() => {});
    about.lost = kind === "lost";
    told(new Set());
  });
}

export function sorted() { return [...rows.values()].sort((a, b) => b.created - a.created || (a.name < b.name ? -1 : 1)); }
