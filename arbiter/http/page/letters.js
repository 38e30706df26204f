// Work that was given up: to look at, put back and forget.

import { ask, part, repeated } from "./api.js";
import { confirmed, filter, SINCE, terms } from "./dialogs.js";
import { badge, block, button, facts, h, keyed, line, table, when } from "./dom.js";
import { listing } from "./listing.js";

const run = (id) => id && h("a", { href: `#/runs/${part(id)}`, class: "code" }, id);

export async function letters(page) {
  page.title("Dead letters");
  const where = terms(page, { capability: "=", type: "=", tenant: "=", since: "=" });
  const why = page.lacks("runs:write");
  const listed = table("Dead letters, newest first", [
    ["Letter", (each) => h("a", { href: `#/dead-letters/${part(each.id)}`, class: "code" }, each.id)],
    ["Status", (each) => badge(each.status)],
    ["Given up", (each) => when(each.at)],
    ["Kind", (each) => each.kind],
    ["Capability", (each) => each.capability ?? ""],
    ["Error", (each) => line(each.type, 80)],
    ["Attempts", (each) => each.attempts || ""],
    ["Tenant", (each) => each.tenant],
    ["Put back as", (each) => run(each.redriven_as) ?? ""],
    ["Actions", (each) => h("div", { class: "row" }, actions(each, why, () => again()))],
  ], (each) => each.id, "No work was given up.");
  const { again, more } = listing(page, listed, { path: "v1/dead-letters", field: "letters", where, ms: 10_000 });
  page.show(
    h("div", { class: "row" }, h("h1", {}, "Dead letters"), h("span", { class: "space" }),
      button("Put back all of these", () => all(where, again), { why })),
    filter(page, [
      { name: "capability", label: "Capability" }, { name: "type", label: "Error type" },
      ...(page.who.tenant === null ? [{ name: "tenant", label: "Tenant" }] : []),
      { name: "since", label: "Given up in", kind: "choice", choices: SINCE },
    ]),
    listed, more);
}

const AGAIN = { name: "again", kind: "checkbox", label: "Also where it was put back before" };
const SAME = { name: "same_version", kind: "checkbox", label: "With the version that failed, not the one that is active" };
const RERUN = { name: "rerun", kind: "checkbox", label: "Of runs, take over what succeeded in them" };

function redrive(body) {
  return async (said) => {
    const { redriven } = await ask("POST", "v1/dead-letters/redrive", { body: { ...body, ...said } });
    const wrong = redriven.filter((one) => one.problem);
    if (wrong.length) throw new Error(`${redriven.length - wrong.length} put back, ${wrong.length} not: ${wrong[0].problem}`);
    return redriven;
  };
}

function actions(letter, why, again) {
  const shown = () => h("p", {}, h("code", {}, letter.id), ` ${letter.capability ?? letter.kind}: ${line(letter.type, 80)}`);
  return [
    button("Put back", async () => {
      const done = await confirmed({
        title: "Put this work back, as a run of its own?", action: "Put back", shown: shown(),
        fields: letter.kind === "run" ? [AGAIN, RERUN] : [AGAIN, SAME],
        does: redrive({ ids: [letter.id] }),
      });
      if (done?.[0]?.run_id) location.hash = `#/runs/${done[0].run_id}`;
    }, { why }),
    button("Forget", async () => {
      const done = await confirmed({
        title: "Forget this letter?", action: "Forget", kind: "danger", shown: shown(),
        does: () => ask("POST", "v1/dead-letters/discard", { body: { ids: [letter.id] } }),
      });
      if (done) again();
    }, { why, kind: "danger" }),
  ];
}

async function all(where, again) {
  const meant = h("p", {}, "Looking…");
  ask("POST", "v1/dead-letters/redrive", { body: { where, limit: 1000, dry_run: true } })
    .then(({ redriven }) => { meant.textContent = `${redriven.filter((one) => !one.problem).length} letters would be put back, each as a run of its own.`; })
    .catch((error) => { meant.textContent = error.message; });
  const done = await confirmed({
    title: "Put back all work that is listed here?", action: "Put all back", shown: [meant, where ? block(where) : null],
    fields: [AGAIN, SAME, RERUN], does: redrive({ where, limit: 1000 }),
  });
  if (done) again();
}

export async function letter(page, id) {
  page.title("Dead letter");
  const head = h("div");
  page.show(head);
  const again = repeated(async () => {
    const found = await ask("GET", `v1/dead-letters/${part(id)}`, { signal: page.signal });
    keyed(head, [found], () => "letter", () => whole(found, page.lacks("runs:write"), again));
    page.settled();
  }, { signal: page.signal, failed: page.failed });
}

function whole(found, why, again) {
  const one = found.letter;
  const tries = table("Attempts", [
    ["Attempt", (each) => each.attempt], ["Ended", (each) => when(each.at)],
    ["Error", (each) => (each.error ? line(`${each.error.type}: ${each.error.message}`, 400) : "")], ["Worker", (each) => each.worker ?? ""],
  ], (each) => each.attempt, "No attempt is known.");
  tries.update([...found.tries]);
  return h("div", {},
    h("div", { class: "row" }, h("h1", {}, "Dead letter"), badge(one.status), h("span", { class: "space" }), actions(one, why, again)),
    facts([
      ["Letter", h("code", {}, one.id)], ["Run", run(one.run_id)], ["Kind", one.kind], ["Capability", one.capability], ["Tenant", one.tenant],
      ["Given up", when(one.at)], ["Put back", one.redriven ? [`${one.redriven} times, last as `, run(one.redriven_as)] : ""], ["Comes from", found.taint.join(", ")],
    ]),
    found.error ? h("section", { class: "failure" }, h("h2", {}, found.error.type), h("p", { class: "long" }, found.error.message)) : null,
    h("h2", {}, "Attempts"), tries, h("h2", {}, "Payload"), block(found.payload));
}
