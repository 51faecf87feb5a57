// Addresses within the page: #/run?name=two-nodes. They can be kept, sent and opened again.

export function link(page, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== null && one !== undefined) query.append(key, one);
  }
  const text = query.toString();
  return `#/${page}${text ? `?${text}` : ""}`;
}

export function go(page, parameters) { location.hash = link(page, parameters); }

export function here() {
  const [page, text = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const query = {};
  for (const [key, value] of new URLSearchParams(text)) query[key] = key in query ? [query[key], value].flat() : value;
  return { page: page || "runs", query };
}
