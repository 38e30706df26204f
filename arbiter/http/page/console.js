// Which view is shown, for whom, and what is said when the server refuses.

import { ask, pause, Problem, signedIn, signIn, signOut } from "./api.js";
import { audit, limits } from "./limits.js";
import { capabilities, capability } from "./capabilities.js";
import { button, h } from "./dom.js";
import { input, labelled } from "./dialogs.js";
import { letter, letters } from "./letters.js";
import { run } from "./run.js";
import { runs } from "./runs.js";
import { schedules, subscribers } from "./standing.js";
import { waiting } from "./waiting.js";

/** Path, name, the scopes of which one is needed, the listing, and the view of one thing in it. */
const VIEWS = [
  ["runs", "Runs", ["runs:read"], runs, run],
  ["waiting", "Waiting", ["tasks:approve", "capabilities:read", "secrets:permit"], waiting],
  ["capabilities", "Capabilities", ["capabilities:read"], capabilities, capability],
  ["dead-letters", "Dead letters", ["runs:read"], letters, letter],
  ["schedules", "Schedules", ["runs:read"], schedules],
  ["subscribers", "Webhooks", ["webhooks:write", "runs:read"], subscribers],
  ["limits", "Budgets", ["limits:read"], limits],
  ["audit", "Audit", ["audit:read"], audit],
];
const WAITING_MS = 15_000;

const main = document.getElementById("main"), bar = document.getElementById("top"), said = document.getElementById("said");
const nav = document.getElementById("nav"), who = document.getElementById("who");
let shown = new AbortController();
let known = null;

const lacks = (...scopes) => (scopes.some((scope) => known.scopes.includes(scope)) ? "" : `This token lacks the scope ${scopes.join(" or ")}.`);

/** Begin a view: whatever the one before was still doing ends. */
function begun() {
  shown.abort();
  shown = new AbortController();
  said.textContent = "";
  document.querySelectorAll("dialog").forEach((each) => each.close());
  return shown.signal;
}

async function show(focus = true) {
  const signal = begun();
  if (!signedIn()) return askForToken("", signal);
  if (known === null) {
    try {
      known = await ask("GET", "v1/token", { signal });
    } catch (error) {
      if (!signal.aborted) refused(error);
      return undefined;
    }
    greet();
    counted();
  }
  const [place, words = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [path, id] = place.split(/\/(.*)/);
  const view = VIEWS.find(([name]) => name === path);
  if (!view) {
    location.replace(`#/${(VIEWS.find(([, , scopes]) => !lacks(...scopes)) ?? VIEWS[0])[0]}`);
    return undefined;
  }
  for (const link of nav.querySelectorAll("a")) {
    if (link.dataset.view === path) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  const [, name, scopes, listing, one] = view;
  const page = {
    path, signal, who: known, lacks, query: new URLSearchParams(words),
    title: (text) => { document.title = `${text} · Arbiter`; },
    show: (...parts) => main.replaceChildren(...parts.flat().filter(Boolean)),
    settled: () => { main.dataset.ready = "true"; if (said.dataset.wrong) { said.textContent = ""; said.dataset.wrong = ""; } },
    failed: (error) => { if (!signal.aborted) refused(error); },
  };
  main.dataset.ready = "";
  const why = lacks(...scopes);
  if (why) {
    page.title(name);
    page.show(h("h1", {}, name), h("p", { class: "closed" }, `Not allowed. ${why}`));
    page.settled();
  } else {
    main.replaceChildren(h("p", { class: "quiet" }, "Looking…"));
    try {
      await (id && one ? one(page, decodeURIComponent(id)) : listing(page));
    } catch (error) {
      page.failed(error);
    }
  }
  if (focus && !signal.aborted) main.focus({ preventScroll: true });
  return undefined;
}

function refused(error) {
  if (error instanceof Problem && error.status === 401) {
    signOut();
    known = null;
    askForToken(error.message, begun());
    return;
  }
  if (main.textContent === error.message) return;
  if (main.dataset.ready !== "true" && error instanceof Problem) {
    main.replaceChildren(h("p", { class: "closed", role: "alert" }, error.message));
    main.dataset.ready = "true";
    return;
  }
  said.dataset.wrong = "true";
  said.textContent = error instanceof Problem ? error.message : "The server cannot be reached; this page goes on trying.";
}

function greet() {
  bar.hidden = false;
  nav.replaceChildren(...VIEWS.map(([path, name, scopes]) => {
    const why = lacks(...scopes);
    return h("a", { href: `#/${path}`, "data-view": path, class: why ? "closed" : "", title: why || null }, name, why ? h("span", { class: "unseen" }, " (not allowed)") : "");
  }));
  const until = known.expires_at ? `, until ${new Date(known.expires_at * 1000).toLocaleDateString()}` : "";
  who.replaceChildren(h("span", { title: `${known.by}${until}` }, known.board, known.tenant ? ` · ${known.tenant}` : "", ` · ${known.name}`),
    button("Sign out", () => { signOut(); known = null; location.hash = ""; show(); }));
}

/** How much waits for a person, beside the name of that view, while somebody is signed in. */
async function counted() {
  const mine = known, never = new AbortController().signal;
  const asked = [];
  if (!lacks("capabilities:read") && !lacks("capabilities:approve")) asked.push("v1/approvals");
  if (!lacks("tasks:approve")) asked.push("v1/task-approvals");
  if (!lacks("secrets:permit")) asked.push("v1/permits");
  while (known === mine && asked.length) {
    if (!document.hidden) {
      try {
        const found = await Promise.all(asked.map((path) => ask("GET", path)));
        const number = found.reduce((sum, each) => sum + each.waiting.length, 0);
        const link = nav.querySelector('[data-view="waiting"]');
        link?.querySelector(".count")?.remove();
        if (number && known === mine) link?.append(h("span", { class: "count" }, number, h("span", { class: "unseen" }, " waiting")));
      } catch { /* whatever is looked at says what is wrong */ }
    }
    await pause(WAITING_MS, never);
  }
}

function askForToken(wrong, signal) {
  bar.hidden = true;
  document.title = "Arbiter";
  const field = { name: "token", kind: "password", label: "Token", required: true, hint: "arb_…" };
  const control = input(field);
  const told = h("p", { class: "wrong", role: "alert" }, wrong);
  const form = h("form", { class: "card", on: { submit: async (event) => {
    event.preventDefault();
    signIn(control.value.trim());
    try {
      known = await ask("GET", "v1/token", { signal });
    } catch (error) {
      signOut();
      if (!signal.aborted) told.textContent = error instanceof Problem ? error.message : "The server cannot be reached.";
      return;
    }
    greet();
    counted();
    show();
  } } },
  h("h1", {}, "Arbiter"), labelled(field, control),
  h("p", { class: "quiet" }, "On the machine of the daemon it is in ", h("code", {}, "~/.arbiter/http/token"), ", or http/token of the data folder it was given; for others ", h("code", {}, "arbiter tokens create"), " makes one. It is kept until this tab is closed."),
  told, h("button", { type: "submit", class: "first" }, "Sign in"));
  main.replaceChildren(form);
  main.dataset.ready = "true";
  control.focus();
}

addEventListener("hashchange", () => show());
show(false);
