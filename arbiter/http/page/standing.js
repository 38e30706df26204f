// What starts runs by itself, and who is told of events: each with how it fares, and how to end it.

import { ask, part, repeated } from "./api.js";
import { confirmed } from "./dialogs.js";
import { badge, button, h, line, seconds, table, when } from "./dom.js";

const run = (id) => (id ? h("a", { href: `#/runs/${part(id)}`, class: "code" }, id) : "");
const wrong = (text) => (text ? h("span", { class: "wrong" }, line(text, 200)) : "");
const many = (number) => (number ? number.toLocaleString() : "");

/** A button that removes something, after a question. */
function removal(page, scope, path, what, again) {
  return (each) => button("Remove", async () => {
    const done = await confirmed({
      title: `Remove the ${what} ${each.name}?`, action: "Remove", kind: "danger",
      does: () => ask("POST", `${path}/${part(each.name)}/remove`, { body: {} }),
    });
    if (done) again();
  }, { why: page.lacks(scope), kind: "danger" });
}

/** Ask for several listings of which the token may not open some, and show each. */
function shown(page, title, sections) {
  page.title(title);
  const again = repeated(async () => {
    await Promise.all(sections.filter(({ scope }) => !page.lacks(scope)).map(async ({ path, field, listed }) =>
      listed.update((await ask("GET", path, { signal: page.signal }))[field])));
    page.settled();
  }, { signal: page.signal, ms: 10_000, failed: page.failed });
  page.show(h("h1", {}, title), sections.map(({ name, scope, listed }) => [h("h2", {}, name),
    page.lacks(scope) ? h("p", { class: "closed" }, `Not allowed. ${page.lacks(scope)}`) : listed]).flat());
  return again;
}

export async function schedules(page) {
  const again = () => look();
  const timed = table("Schedules by name", [
    ["Name", (each) => each.name],
    ["Status", (each) => badge(each.status)],
    ["When", (each) => [h("code", {}, each.when), ` ${each.timezone}`]],
    ["Next", (each) => when(each.next_at)],
    ["Runs", (each) => many(each.fired)],
    ["Skipped", (each) => [each.missed && `${each.missed} missed`, each.overlapped && `${each.overlapped} overlapped`].filter(Boolean).join(", ")],
    ["Refused", (each) => many(each.failed)],
    ["Last run", (each) => run(each.last_run)],
    ["Tenant", (each) => each.tenant],
    ["Request", (each) => [line(each.request, 120), each.plan.length ? h("small", {}, ` by a plan of ${each.plan.length}`) : "", each.last_error ? h("p", {}, wrong(each.last_error)) : ""]],
    ["Actions", removal(page, "runs:write", "v1/schedules", "schedule", again)],
  ], (each) => each.name, "Nothing is scheduled.");
  const watches = table("Standing watches by name", [
    ["Name", (each) => each.name],
    ["Watches", (each) => [h("code", {}, `${each.scope} ${each.topic}`), each.where ? ` ${each.where}` : ""]],
    ["Runs", (each) => many(each.started)],
    ["Refused", (each) => many(each.refused)],
    ["Last run", (each) => run(each.last_run)],
    ["Tenant", (each) => each.tenant],
    ["Error", (each) => wrong(each.last_error)],
    ["Actions", removal(page, "runs:write", "v1/standing", "watch", again)],
  ], (each) => each.name, "Nothing is watched.");
  const look = shown(page, "Schedules and watches", [
    { name: "Schedules", scope: "runs:read", path: "v1/schedules", field: "schedules", listed: timed },
    { name: "Standing watches", scope: "runs:read", path: "v1/standing", field: "standing", listed: watches },
  ]);
}

export async function subscribers(page) {
  const again = () => look();
  const hooks = table("Webhooks by name", [
    ["Name", (each) => each.name],
    ["Status", (each) => each.disabled ? badge("failing", "disabled") : badge(each.last_error ? "failing" : "well")],
    ["Sends", (each) => line(each.kinds.join(", "), 100)],
    ["To", (each) => h("code", {}, line(each.url, 200))],
    ["Tenant", (each) => each.tenant ?? "all"],
    ["Given up", (each) => many(each.given_up)],
    ["Error", (each) => wrong(each.disabled ?? each.last_error)],
    ["Actions", removal(page, "webhooks:write", "v1/webhooks", "webhook", again)],
  ], (each) => each.name, "Nothing is sent.");
  const readers = table("Subscriptions by name", [
    ["Name", (each) => each.name],
    ["Kinds", (each) => line(each.kinds.join(", "), 100)],
    ["Tenant", (each) => each.tenant ?? "all"],
    ["Waiting", (each) => many(each.waiting)],
    ["Held", (each) => (each.held ? `${each.held.toLocaleString()} by ${each.consumers}` : "")],
    ["Oldest", (each) => (each.lag_seconds ? seconds(each.lag_seconds) : "")],
    ["Done", (each) => many(each.done)],
    ["Gaps", (each) => (each.lost ? h("span", { class: "wrong" }, each.lost) : "")],
    ["Actions", removal(page, "runs:write", "v1/subscriptions", "subscription", again)],
  ], (each) => each.name, "Nobody is subscribed.");
  const look = shown(page, "Webhooks and subscriptions", [
    { name: "Webhooks", scope: "webhooks:write", path: "v1/webhooks", field: "webhooks", listed: hooks },
    { name: "Subscriptions", scope: "runs:read", path: "v1/subscriptions", field: "subscriptions", listed: readers },
  ]);
}
