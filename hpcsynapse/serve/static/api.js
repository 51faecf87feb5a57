// Questions to the server that the page is from; in a snapshot, to the data that is in the page itself.

const kept = document.getElementById("snapshot");
export const snapshot = kept ? JSON.parse(kept.textContent) : null;
const WRITE = "hpcsynapse-write";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function path(name, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined) query.append(key, one);
    }
  }
  const text = query.toString();
  return `api/v1/${name}${text ? `?${text}` : ""}`;
}

export async function get(name, parameters = {}) {
  const wanted = path(name, parameters);
  if (snapshot) {
    if (wanted in snapshot.answers) return snapshot.answers[wanted];
    throw new ApiError(404, snapshot.errors[wanted] || "this snapshot does not hold that");
  }
  return answered(await asked(wanted));
}

// A network that changes (VPN, another Wi-Fi) breaks requests off: they are sent again, as none does anything twice.
async function asked(wanted, options, pauses = [300, 1500]) {
  try {
    return await fetch(wanted, options);
  } catch {
    if (pauses.length) {
      await new Promise((resolve) => setTimeout(resolve, pauses[0]));
      return asked(wanted, options, pauses.slice(1));
    }
    throw new ApiError(0, "the server does not answer: has the ssh line ended?");
  }
}

async function answered(response) {
  const type = response.headers.get("content-type") || "";
  const body = type.startsWith("application/json") ? await response.json() : {};
  if (!response.ok) throw new ApiError(response.status, body.error || said(response.status));
  return body;
}

function said(status) {
  return status === 401 ? "open the address that hpcsynapse serve has printed: this page lacks its token" : `refused (${status})`;
}

// The token stands behind # once, and is exchanged for a cookie; it is taken out of the address and the history.
export async function enter() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (snapshot || !given.get("token")) return;
  const write = given.get("write");
  history.replaceState(null, "", location.pathname + location.search);
  await answered(await asked("api/v1/session", { method: "POST", body: JSON.stringify({ token: given.get("token") }) }));
  if (write) sessionStorage.setItem(WRITE, write);
}

export function mayAct() { return !snapshot && Boolean(sessionStorage.getItem(WRITE)); }

export async function act(name, body) {
  const headers = { "X-HPCSynapse-Token": sessionStorage.getItem(WRITE) || "", "Content-Type": "application/json" };
  return answered(await asked(`api/v1/${name}`, { method: "POST", headers, body: JSON.stringify(body) }));
}

export async function send(name, parameters, file) {
  const headers = { "X-HPCSynapse-Token": sessionStorage.getItem(WRITE) || "", "Content-Type": "application/zip" };
  return answered(await asked(path(name, parameters), { method: "POST", headers, body: file }));
}

// A page from a disk may ask for nothing, but load a script: one that sets a text, which is read as JSON. It is loaded
// again, under another address each time, until it says that it has ended.
function renewed(tell) {
  if (!snapshot.beside) return () => {};
  const { file, nonce, every } = snapshot.beside;
  let lost = false;
  const load = () => {
    if (document.hidden) return;
    const script = document.createElement("script");
    script.nonce = nonce;
    script.src = `${encodeURIComponent(file)}?${Date.now()}`;
    script.onload = () => {
      script.remove();
      const newer = JSON.parse(globalThis.hpcsynapseSnapshot);
      if (newer.made < snapshot.made) return;
      const same = newer.made === snapshot.made && newer.ended === snapshot.ended && !lost;
      Object.assign(snapshot, newer);
      lost = false;
      if (!same) tell("again");
      if (snapshot.ended) stop();
    };
    script.onerror = () => { script.remove(); lost = true; tell("lost"); };
    document.head.append(script);
  };
  const timer = setInterval(load, 1000 * every);
  const stop = () => { clearInterval(timer); document.removeEventListener("visibilitychange", load); };
  document.addEventListener("visibilitychange", load);
  load();
  return stop;
}

// One stream for the page; it is closed while nobody looks at it. `tell` gets "runs", "again", "lost" or "back".
export function follow(after, tell) {
  if (snapshot) return renewed(tell);
  let source = null, last = after, lost = false;
  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(path("events", { after: last }));
    source.addEventListener("runs", (event) => {
      const told = JSON.parse(event.data);
      last = told.changed;
      tell("runs", told);
    });
    source.addEventListener("again", () => tell("again"));
    source.onopen = () => { if (lost) tell("back"); lost = false; };
    source.onerror = () => {
      lost = true;
      tell("lost");
      if (source.readyState === EventSource.CLOSED) { close(); setTimeout(open, 2000); }
    };
  };
  const close = () => { if (source) source.close(); source = null; };
  const changed = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", changed);
  open();
  return () => { document.removeEventListener("visibilitychange", changed); close(); };
}
