// What the board can do, and each capability in full.

import { ask, part, repeated } from "./api.js";
import { badge, block, facts, folded, h, line, seconds, table, when } from "./dom.js";

const percent = (share) => (share === null || share === undefined ? "" : `${Math.round(share * 100)} %`);
const link = (name, sha) => `#/capabilities/${part(name)}${sha ? `?sha=${part(sha)}` : ""}`;

export async function capabilities(page) {
  page.title("Capabilities");
  const listed = table("Capabilities by name", [
    ["Name", (each) => h("a", { href: link(each.name, each.state === "canary" ? each.sha : "") }, each.name)],
    ["Version", (each) => [h("code", {}, each.sha.slice(0, 12)), each.version_count > 1 ? ` of ${each.version_count}` : ""]],
    ["Health", (each) => [badge(each.health ?? "new"), each.why ? ` ${line(each.why)}` : ""]],
    ["Kind", (each) => each.kind],
    ["Effects", (each) => each.effects],
    ["Calls", (each) => each.calls || ""],
    ["Success", (each) => percent(each.success)],
    ["Takes", (each) => seconds(each.seconds)],
    ["Tokens", (each) => (each.tokens ? Math.round(each.tokens).toLocaleString() : "")],
    ["Description", (each) => line(each.description, 200)],
  ], (each) => `${each.name} ${each.sha}`, "This board can do nothing yet.");
  page.show(h("h1", {}, "Capabilities"), listed);
  repeated(async () => {
    listed.update((await ask("GET", "v1/capabilities", { signal: page.signal })).capabilities);
    page.settled();
  }, { signal: page.signal, ms: 15_000, failed: page.failed });
}

export async function capability(page, name) {
  page.title(name);
  const sha = page.query.get("sha") ?? "";
  const found = await ask("GET", `v1/capabilities/${part(name)}`, { query: { sha }, signal: page.signal });
  const versions = table("Versions", [
    ["Version", (each) => h("a", { href: link(name, each.sha), class: "code" }, each.sha.slice(0, 12))],
    ["State", (each) => [badge(each.state), each.retired_by ? ` by ${line(each.retired_by)}` : ""]],
    ["Made", (each) => when(each.created_at)],
    ["Exam", (each) => (each.examined === null ? "" : badge(each.examined ? "passed" : "failed"))],
    ["Tasks", (each) => Object.entries(each.outcomes).map(([status, number]) => `${number} ${status.replaceAll("_", " ")}`).join(", ")],
  ], (each) => each.sha, "There is no version.");
  versions.update([...found.versions].reverse());
  const signature = found.signature;
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
    h("h2", {}, "Grants"), block(found.manifest.grants),
    folded("Manifest", block(found.manifest)),
    found.exam ? folded("Exam", block(found.exam)) : null,
    found.source === null ? null : [h("h2", {}, "Code"), block(found.source)],
  );
  page.settled();
}
