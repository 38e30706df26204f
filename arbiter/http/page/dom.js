// Elements out of data. Whatever a board holds becomes text here and nothing else: there is no other way into the page.

const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const MOST = 20_000;

/** Text without control characters and direction marks, which could show something other than what is there. */
export function plain(value) {
  return String(value).replaceAll("\r\n", "\n").replace(UNSEEN, "\ufffd");
}

/** A value as one line of at most `most` characters; of one that is stored apart, how large it is. */
export function line(value, most = 120) {
  if (typeof value?.$blob === "string") return `${value.bytes.toLocaleString()} bytes, stored apart`;
  const text = plain(typeof value === "string" ? value : (JSON.stringify(value, null, 1) ?? "")).replace(/\s+/g, " ").trim();
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

/**
 * An element.
 * Attributes: `on` holds listeners by event, true and false set and leave out; links lead to places of this page only.
 * Children: text, elements, lists of them; null and false are left out.
 */
export function h(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, heard] of Object.entries(value)) made.addEventListener(event, heard);
    else if (value === null || value === undefined || value === false) continue;
    else if (key.startsWith("on") || key === "style" || key === "srcdoc") throw new TypeError(`no attribute ${key} here`);
    else if (key === "href" && !String(value).startsWith("#")) throw new TypeError("links lead to places of this page");
    else made.setAttribute(key, value === true ? "" : plain(value));
  }
  made.append(...nodes(children));
  return made;
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(plain(child))));
}

/** A value as it is: text, or JSON; what is long is cut until somebody asks for all of it. */
export function block(value) {
  const text = plain(typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "");
  if (text.length <= MOST) return h("pre", { tabindex: "0" }, text);
  const cut = h("pre", { tabindex: "0" }, text.slice(0, MOST));
  const all = () => { cut.textContent = text; more.remove(); };
  const more = button(`Show ${(text.length - MOST).toLocaleString()} more characters`, all);
  return h("div", {}, cut, more);
}

/** Something short that opens to something long; `content` may be a function, which is asked when it is opened. */
export function folded(summary, content, open = false) {
  const made = h("details", { open }, h("summary", {}, summary));
  made.fill = () => {
    if (made.children.length === 1) made.append(...nodes([typeof content === "function" ? content() : content]));
  };
  if (open || typeof content !== "function") made.fill();
  else for (const event of ["click", "toggle"]) made.addEventListener(event, made.fill);
  return made;
}

/** A button that says why it cannot be used, where it cannot. */
export function button(label, does, { why = "", kind = "" } = {}) {
  const made = h("button", { type: "button", class: kind, disabled: Boolean(why), title: why || null }, label);
  made.addEventListener("click", does);
  return made;
}

export function badge(state, words = String(state).replaceAll("_", " ")) {
  return h("span", { class: "badge", "data-state": state }, words);
}

/** Seconds since the epoch, or an ISO time, as this browser's own time. */
export function when(at) {
  if (at === null || at === undefined) return "";
  const date = typeof at === "number" ? new Date(at * 1000) : new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  const shown = today ? date.toLocaleTimeString() : date.toLocaleString();
  return h("time", { datetime: date.toISOString(), title: date.toISOString() }, shown);
}

export function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 9.995) return `${Math.max(0, value).toFixed(2)} s`;
  if (value < 99.95) return `${value.toFixed(1)} s`;
  const minutes = Math.floor(Math.round(value) / 60);
  const rest = String(Math.round(value) % 60).padStart(2, "0");
  if (minutes < 100) return `${minutes} min ${rest} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** Names and values, one below the other; what has no value is left out. */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", {}, known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/**
 * Make the children of an element those of a list, touching only what changed: what somebody has opened stays open, and
 * what has the focus keeps it.
 */
export function keyed(parent, items, key, make) {
  const kept = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let last = null;
  for (const item of items) {
    const name = String(key(item)), text = JSON.stringify(item);
    let node = kept.get(name);
    kept.delete(name);
    if (!node || node.told !== text) {
      const made = make(item);
      made.dataset.key = name;
      made.told = text;
      if (node) replace(node, made);
      node = made;
    }
    const place = last ? last.nextSibling : parent.firstChild;
    if (node !== place) parent.insertBefore(node, place);
    last = node;
  }
  for (const gone of kept.values()) gone.remove();
}

function replace(old, made) {
  const were = [...old.querySelectorAll("details")];
  were.forEach(({ open, children }, number) => {
    const now = made.querySelectorAll("details")[number];  // filling one may have brought others
    if (now && children.length > 1) now.fill();
    if (now) now.open = open;
  });
  const can = "a,button,input,select,textarea,summary,pre";
  const held = [...old.querySelectorAll(can)].indexOf(document.activeElement);
  old.replaceWith(made);
  if (held >= 0) made.querySelectorAll(can)[held]?.focus();
}

/**
 * A table. Columns: a heading and what makes a cell of a row. On narrow screens each row stands as a card.
 * Its `update(rows)` changes what changed.
 */
export function table(caption, columns, key, empty) {
  const body = h("tbody"), none = h("p", { class: "quiet" }, empty);
  const head = h("thead", {}, h("tr", {}, columns.map(([name]) => h("th", { scope: "col" }, name))));
  const whole = h("table", {}, h("caption", { class: "unseen" }, caption), head, body);
  const row = (item) => h("tr", {}, columns.map(([name, cell]) => h("td", { "data-label": name }, h("div", {}, cell(item)))));
  const made = h("div", { class: "table" }, whole, none);
  made.update = (rows) => {
    keyed(body, rows, key, row);
    whole.hidden = rows.length === 0;
    none.hidden = rows.length > 0;
  };
  made.update([]);
  none.hidden = true;
  return made;
}
