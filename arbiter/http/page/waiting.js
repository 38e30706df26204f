// What waits for a person: grants that a version asks for, and requests that would carry a secret.

import { ask, part, repeated } from "./api.js";
import { confirmed } from "./dialogs.js";
import { block, button, facts, folded, h, keyed, when } from "./dom.js";

export async function waiting(page) {
  page.title("Waiting for a person");
  const versions = h("div"), requests = h("div"), none = h("p", { class: "quiet" }, "Nothing waits.");
  const closed = (scope) => page.lacks(scope);
  const again = repeated(async () => {
    const [grants, permits] = await Promise.all(["capabilities:read", "secrets:permit"].map((scope, number) =>
      closed(scope) ? { waiting: [] } : ask("GET", ["v1/approvals", "v1/permits"][number], { signal: page.signal })));
    keyed(versions, grants.waiting, (each) => `${each.name}|${each.sha}`, (each) => version(page, each, again));
    keyed(requests, permits.waiting, (each) => each.id, (each) => permit(each, again));
    none.hidden = grants.waiting.length + permits.waiting.length > 0;
    page.settled();
  }, { signal: page.signal, ms: 5_000, failed: page.failed });
  page.show(
    h("h1", {}, "Waiting for a person"),
    none,
    closed("secrets:permit") ? h("p", { class: "closed" }, `Requests with secrets: ${closed("secrets:permit")}`) : requests,
    closed("capabilities:read") ? h("p", { class: "closed" }, `Grants: ${closed("capabilities:read")}`) : versions,
  );
}

const SEEN = { name: "seen", kind: "checkbox", required: true, label: "I have seen where it comes from" };
const REASON = { name: "reason", label: "Reason, for the record" };
const warned = (sources) => (sources.length
  ? h("p", { class: "warning" }, `It comes from what is not trusted: ${sources.join(", ")}`) : null);

function version(page, each, again) {
  const shown = () => h("div", {},
    h("p", { class: "long" }, each.description), warned(each.sources),
    facts([["Version", h("code", {}, each.sha)], ["Effects", each.effects], ["Tenant", each.tenant === "*" ? "all" : each.tenant]]),
    h("h3", {}, "Asks to be allowed"), block(each.grants));
  const decided = (title, action, path, kind, fields, body) => async () => {
    const found = await ask("GET", `v1/capabilities/${part(each.name)}`, { query: { sha: each.sha }, signal: page.signal })
      .catch(() => null);
    const done = await confirmed({
      title, action, kind, fields, shown: [shown(), found?.source ? folded("Code", block(found.source)) : null],
      does: (said) => ask("POST", `v1/approvals/${part(each.name)}/${path}`, { body: { sha: each.sha, ...body(said) } }),
    });
    if (done) again();
  };
  const why = page.lacks("capabilities:approve");
  return h("article", { class: "card" },
    h("h2", {}, "Grants of ", h("a", { href: `#/capabilities/${part(each.name)}?sha=${part(each.sha)}` }, each.name)), shown(),
    h("div", { class: "row" },
      button("Approve", decided(`Let ${each.name} run with these grants?`, "Approve", "approve", "first",
        each.sources.length ? [SEEN] : [], () => ({ sources: each.sources })), { why, kind: "first" }),
      button("Refuse", decided(`Refuse ${each.name}? This version never runs then.`, "Refuse", "refuse", "danger",
        [REASON], ({ reason }) => ({ reason })), { why, kind: "danger" })));
}

function permit(each, again) {
  const request = each.request, cut = new TextEncoder().encode(request.body).length < request.body_bytes;
  const shown = () => h("div", {},
    warned(each.sources),
    block(`${request.method} ${request.url}\n${Object.entries(request.headers).map(([name, value]) => `${name}: ${value}`).join("\n")}${request.body ? `\n\n${request.body}` : ""}`),
    facts([
      ["Secrets", each.secrets.join(", ")], ["Body", request.body_bytes ? `${cut ? "only its beginning is shown; " : ""}${request.body_bytes.toLocaleString()} bytes, SHA-256 ${request.body_sha256}` : "none"],
      ["Capability", h("a", { href: `#/capabilities/${part(each.capability)}?sha=${part(each.version)}` }, each.capability)],
      ["Run", h("a", { href: `#/runs/${part(each.run_id)}`, class: "code" }, each.run_id)], ["Task", each.task_id], ["Tenant", each.tenant],
      ["Asked", when(each.asked_at)], ["Answered no", when(each.until)],
    ]));
  const decided = (title, action, path, kind, fields, body) => async () => {
    const done = await confirmed({
      title, action, kind, fields, shown: shown(),
      does: (said) => ask("POST", `v1/permits/${part(each.id)}/${path}`, { body: body(said) }),
    });
    if (done) again();
  };
  return h("article", { class: "card" },
    h("h2", {}, `A request that would carry ${each.secrets.join(", ")}`), shown(),
    h("div", { class: "row" },
      button("Approve", decided("Let this request be made, with the secret?", "Approve", "approve", "first",
        each.sources.length ? [SEEN] : [], () => ({ sources: each.sources })), { kind: "first" }),
      button("Refuse", decided("Refuse this request? Its task ends then.", "Refuse", "refuse", "danger",
        [REASON], ({ reason }) => ({ reason })), { kind: "danger" })));
}
