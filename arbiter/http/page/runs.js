// The latest runs, and a new one.

import { ask, follow } from "./api.js";
import { confirmed, filter, SINCE, terms } from "./dialogs.js";
import { badge, button, h, line, seconds, table, when } from "./dom.js";
import { listing } from "./listing.js";

const STATES = ["queued", "running", "paused", "cancelling", "succeeded", "failed", "refused", "timed_out", "cancelled"];

export async function runs(page) {
  page.title("Runs");
  const where = terms(page, { status: "=", tenant: "=", since: "=", text: "~" });
  const listed = table("Runs, newest first", [
    ["Run", (run) => h("a", { href: `#/runs/${run.run_id}`, class: "code" }, run.run_id)],
    ["Status", (run) => badge(run.status)],
    ["Accepted", (run) => when(run.created_at)],
    ["Took", (run) => (run.ended_at ? seconds(run.ended_at - run.created_at) : "")],
    ["Rounds", (run) => run.round || ""],
    ["Tasks", (run) => run.tasks || ""],
    ["Tenant", (run) => run.tenant],
    ["Request", (run) => line(run.request, 160)],
  ], (run) => run.run_id, "No run is like that.");
  const live = h("span", { class: "live" });
  const { again, more } = listing(page, listed, { path: "v1/runs", field: "runs", where, ms: 15_000 });

  page.show(
    h("div", { class: "row" }, h("h1", {}, "Runs"), live, h("span", { class: "space" }),
      button("New run", () => submit(page), { why: page.lacks("runs:write"), kind: "first" })),
    filter(page, [
      { name: "status", label: "Status", kind: "choice", choices: [["", "any"], ...STATES.map((each) => [each, each.replaceAll("_", " ")])] },
      ...(page.who.tenant === null ? [{ name: "tenant", label: "Tenant" }] : []),
      { name: "since", label: "Accepted in", kind: "choice", choices: SINCE },
      { name: "text", label: "Request has" },
    ]),
    listed, more);
  follow("v1/runs/events", {
    signal: page.signal, heard: again,
    state: (there) => { live.textContent = there ? "live" : ""; if (there) again(); },
  }).catch(page.failed);
}

async function submit(page) {
  const key = crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint32Array(4))].join("-");
  const made = await confirmed({
    title: "New run",
    fields: [
      { name: "request", label: "What is to be done: words, or a JSON object", kind: "text area", required: true },
      ...(page.who.tenant === null ? [{ name: "tenant", label: "Tenant (empty: as the daemon's)" }] : []),
    ],
    action: "Submit",
    does: ({ request, tenant }) => ask("POST", "v1/runs", {
      query: { tenant }, body: request,
      headers: { "Content-Type": object(request) ? "application/json" : "text/plain", "Idempotency-Key": key },
    }),
  });
  if (made) location.hash = `#/runs/${made.run_id}`;
}

function object(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}
