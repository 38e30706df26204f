// What waits for a person: tasks, grants that a version asks for, and requests that would carry a secret.

import { ask, part, repeated } from "./api.js";
import { confirmed } from "./dialogs.js";
import { block, button, facts, folded, h, keyed, when } from "./dom.js";

export async function waiting(page) {
  page.title("Waiting for a person");
  const tasks = h("div"), versions = h("div"), requests = h("div"), none = h("p", { class: "quiet" }, "Nothing waits.");
  const closed = (scope) => page.lacks(scope);
  const again = repeated(async () => {
    const [approvals, grants, permits] = await Promise.all(["tasks:approve", "capabilities:read", "secrets:permit"].map((scope, number) =>
      closed(scope) ? { waiting: [] } : ask("GET", ["v1/task-approvals", "v1/approvals", "v1/permits"][number], { signal: page.signal })));
    keyed(tasks, approvals.waiting, (each) => each.id, (each) => task(each, again));
    keyed(versions, grants.waiting, (each) => `${each.name}|${each.sha}`, (each) => version(page, each, again));
    keyed(requests, permits.waiting, (each) => each.id, (each) => permit(each, again));
    none.hidden = approvals.waiting.length + grants.waiting.length + permits.waiting.length > 0;
    page.settled();
  }, { signal: page.signal, ms: 5_000, failed: page.failed });
  page.show(
    h("h1", {}, "Waiting for a person"),
    none,
    closed("tasks:approve") ? h("p", { class: "closed" }, `Tasks: ${closed("tasks:approve")}`) : tasks,
    closed("secrets:permit") ? h("p", { class: "closed" }, `Requests with secrets: ${closed("secrets:permit")}`) : requests,
    closed("capabilities:read") ? h("p", { class: "closed" }, `Grants: ${closed("capabilities:read")}`) : versions,
  );
}

const SEEN = { name: "seen", kind: "checkbox", required: true, label: "I have seen where it comes from" };
const REASON = { name: "reason", label: "Reason, for the record" };
const warned = (sources) => (sources.length
  ? h("p", { class: "warning" }, `It comes from what is not trusted: ${sources.join(", ")}`) : null);

function task(each, again) {
  const question = each.kind === "question", path = `v1/task-approvals/${part(each.id)}`;
  const silence = each.otherwise === null ? (question ? "stays unanswered" : "is refused")
    : question ? `the answer is ${each.otherwise}` : "is approved";
  const { question: words, options } = question && each.whole ? JSON.parse(each.arguments) : {};
  const shown = () => h("div", {},
    block(words ?? (each.whole ? each.arguments : `${each.arguments}…`)),  // as it is: a browser would round long numbers
    facts([
      ["Asked", when(each.asked_at)], ["Without an answer", h("span", {}, silence, " at ", when(each.until))],
      ["For", [...each.by, ...each.delegate.map((name) => `${name} (from ${new Date(each.delegate_at * 1000).toLocaleString()})`)].join(", ") || "whoever may"],
      ["Answers to choose from", options?.join(", ")],
      ["Arguments", words ? "" : `${each.whole ? "" : "only their beginning is shown; "}${each.argument_bytes.toLocaleString()} bytes`],
      ["Comes from", each.sources.join(", ")], ["The run was asked", each.request],
      ["Capability", question ? "" : h("a", { href: `#/capabilities/${part(each.capability)}${each.version ? `?sha=${part(each.version)}` : ""}` }, each.capability)],
      ["Run", h("a", { href: `#/runs/${part(each.run_id)}`, class: "code" }, each.run_id)], ["Task", each.task_id], ["Tenant", each.tenant],
    ]));
  const decided = (title, action, path, kind, fields, body) => async () => {
    const done = await confirmed({
      title, action, kind, fields, shown: shown(), does: (said) => ask("POST", path, { body: body(said) }),
    });
    if (done) again();
  };
  const answer = options
    ? { name: "answer", kind: "choice", label: "Answer", choices: options.map((each) => [each, each]) }
    : { name: "answer", kind: "text area", label: "Answer", required: true };
  const instead = { name: "arguments", kind: "text area", label: "Arguments", required: true, value: each.whole ? each.arguments : "" };
  const changed = (said) => {
    if (/[0-9]{16}/.test(said.arguments)) throw new Error("A browser would round a number that long: use arbiter approvals approve --arguments.");
    return { arguments: JSON.parse(said.arguments) };
  };
  return h("article", { class: "card" },
    h("h2", {}, question ? "A question of the planning model" : `May ${each.capability} be done?`), shown(),
    h("div", { class: "row" },
      question
        ? button("Answer", decided("Answer the question", "Answer", `${path}/answer`, "first", [answer], (said) => said), { kind: "first" })
        : [button("Approve", decided(`Let ${each.capability} be done with exactly this?`, "Approve", `${path}/approve`, "first", [], () => ({})), { kind: "first" }),
          button("Change", decided(`Let ${each.capability} be done with other arguments?`, "Approve", `${path}/approve`, "first", [instead], changed))],
      button("Refuse", decided(question ? "Refuse to answer?" : `Refuse? The task ends then.`, "Refuse", `${path}/refuse`, "danger",
        [REASON], ({ reason }) => ({ reason })), { kind: "danger" })));
}

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
