// What the board can do, and each capability in full.

import { ask, part, repeated } from "./api.js";
import { filter } from "./dialogs.js";
import { badge, block, facts, folded, h, line, seconds, table, when } from "./dom.js";

const HISTORY = 50;
const percent = (share) => (share === null || share === undefined ? "" : `${Math.round(share * 100)} %`);
const link = (name, sha) => `#/capabilities/${part(name)}${sha ? `?sha=${part(sha)}` : ""}`;

export async function capabilities(page) {
  page.title("Capabilities");
  const every = page.query.get("every") ?? "", words = (page.query.get("words") ?? "").toLowerCase();
  const listed = table("Capabilities by name", [
    ["Name", (each) => h("a", { href: link(each.name, each.state === "active" ? "" : each.sha) }, each.name)],
    ["Version", (each) => [h("code", {}, each.sha.slice(0, 12)), each.version_count > 1 ? ` of ${each.version_count}` : ""]],
    ["Health", (each) => [each.state === "active" ? "" : [badge(each.state), " "], each.state === "active" || each.state === "canary" ? badge(each.health ?? "new") : ""]],
    ["Kind", (each) => each.kind],
    ["Effects", (each) => each.effects],
    ["Calls", (each) => (each.calls ? each.calls.toLocaleString() : "")],
    ["Success", (each) => percent(each.success)],
    ["Takes", (each) => seconds(each.seconds)],
    ["Tokens", (each) => (each.tokens ? Math.round(each.tokens).toLocaleString() : "")],
    ["Description", (each) => [line(each.description, 200), each.why ? h("p", { class: "quiet" }, line(each.why, 400)) : ""]],
  ], (each) => `${each.name} ${each.sha}`, words ? "No capability is like that." : "This board can do nothing yet.");
  page.show(h("h1", {}, "Capabilities"), filter(page, [
    { name: "words", label: "Name or description has" },
    { name: "every", label: "Versions", kind: "choice", choices: [["", "that are offered"], ["true", "all, retired ones too"]] },
  ]), listed);
  repeated(async () => {
    const found = (await ask("GET", "v1/capabilities", { query: { every }, signal: page.signal })).capabilities;
    listed.update(found.filter((each) => `${each.name} ${each.description}`.toLowerCase().includes(words)));
    page.settled();
  }, { signal: page.signal, ms: 15_000, failed: page.failed });
}

export async function capability(page, name) {
  page.title(name);
  const sha = page.query.get("sha") ?? "";
  const [found, history] = await Promise.all([
    ask("GET", `v1/capabilities/${part(name)}`, { query: { sha }, signal: page.signal }),
    page.lacks("audit:read") ? null : recorded(page, name),
  ]);
  const judged = (each) => each.detail.version?.sha ?? each.subject.slice(name.length + 1);  // not the one that took its place
  const reasons = new Map(history?.filter((each) => each.reason).reverse().map((each) => [judged(each), each.reason]));
  const versions = table("Versions", [
    ["Version", (each) => h("a", { href: link(name, each.sha), class: "code" }, each.sha.slice(0, 12))],
    ["State", (each) => [badge(each.state), each.retired_by ? ` by ${line(each.retired_by)}` : ""]],
    ["Made", (each) => when(each.created_at)],
    ["Exam", (each) => (each.examined === null ? "" : badge(each.examined ? "passed" : "failed"))],
    ["Tasks", (each) => Object.entries(each.outcomes).map(([status, number]) => `${number.toLocaleString()} ${status.replaceAll("_", " ")}`).join(", ")],
    ["Reason", (each) => (each.sha === found.trial?.sha ? found.trial.said : line(reasons.get(each.sha) ?? "", 300))],
  ], (each) => each.sha, "There is no version.");
  versions.update([...found.versions].reverse());
  const signature = found.signature, grants = found.manifest.grants;
  page.show(
    h("div", { class: "row" }, h("h1", {}, found.name), badge(found.state)),
    h("p", { class: "long" }, found.description),
    facts([
      ["Version", h("code", {}, found.sha)], ["Kind", found.kind], ["Effects", found.effects], ["Lane", found.lane],
      ["Tenant", found.tenant === "*" ? "all" : found.tenant], ["Made", when(found.created_at)],
      ["Signed", signature && (signature.key ? [h("code", {}, signature.key), ` ${signature.by ?? "by a key this board does not know"}`] : "by nobody")],
      ["Retired", found.retired_by && `by ${line(found.retired_by)}`],
      ["Refused", signature?.refused && h("span", { class: "wrong" }, signature.refused)],
    ]),
    h("h2", {}, "Versions"), versions,
    found.exam ? exam(found.exam) : null,
    h("h2", {}, "Grants"), Object.values(grants).flat().some((each) => each && typeof each !== "object" || each && Object.keys(each).length) ? block(grants) : h("p", {}, "It is granted nothing."),
    folded("Manifest", () => block(found.manifest)),
    found.source === null ? null : [h("h2", {}, "Code"), block(found.source)],
    history?.length ? changes(name, history) : null,
  );
  page.settled();
}

function exam(record) {
  const noticed = record.mistakes_planted ? `${record.mistakes_noticed} of ${record.mistakes_planted}` : "";
  return h("section", {}, h("div", { class: "row" }, h("h2", {}, "Exam"), badge(record.passed ? "passed" : "failed")),
    facts([
      ["Cases", `${record.public_cases} public, ${record.sealed_cases} sealed`], ["Planted mistakes that it noticed", noticed],
      ["Properties", record.properties ? `${record.properties} on ${record.property_inputs.toLocaleString()} inputs that no case has` : ""],
      ["Examiner", record.examiner], ["When", when(record.when)],
    ]),
    record.failures.length ? h("ul", { class: "wrong" }, record.failures.map((each) => h("li", {}, each))) : null);
}

/** What the audit has about the versions of a name, newest first. */
async function recorded(page, name) {
  const where = `subject~"${name}|"`;
  const { entries } = await ask("GET", "v1/audit", { query: { where, limit: HISTORY }, signal: page.signal });
  return entries.filter((each) => each.subject.startsWith(`${name}|`));
}

function changes(name, history) {
  const listed = table("What was done with its versions, newest first", [
    ["When", (each) => when(each.at)],
    ["What", (each) => h("code", {}, each.kind)],
    ["Version", (each) => h("code", {}, each.subject.slice(name.length + 1, name.length + 13))],
    ["By", (each) => line(each.by, 120)],
    ["Reason", (each) => line(each.reason, 300)],
    ["Detail", (each) => (Object.keys(each.detail).length ? folded(line(each.detail, 60), () => block(each.detail)) : "")],
  ], (each) => each.cursor, "");
  listed.update(history);
  return h("section", {}, h("h2", {}, "History"), listed);
}
