// What may be spent and what is in use, and who did what.

import { ask, repeated } from "./api.js";
import { filter, SINCE, terms } from "./dialogs.js";
import { block, folded, h, line, table, when } from "./dom.js";
import { listing } from "./listing.js";

const amount = (unit, value) => (unit === "money" ? (value / 1e6).toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 4 }) : Math.round(value).toLocaleString());
const share = (each) => `${Math.round(100 * (each.spent + each.reserved) / Math.max(each.limit, 1))} %`;

export async function limits(page) {
  page.title("Budgets and quotas");
  const budgets = table("Budgets", [
    ["Level", (each) => each.level],
    ["Unit", (each) => each.unit],
    ["Used", (each) => [h("meter", { min: 0, max: Math.max(each.limit, 1), value: each.spent + each.reserved, high: each.limit * 0.9, optimum: 0, "aria-label": `used of ${each.level}, ${each.unit}` }), ` ${share(each)}`]],
    ["Spent", (each) => amount(each.unit, each.spent)],
    ["Held", (each) => amount(each.unit, each.reserved)],
    ["Left", (each) => amount(each.unit, Math.max(0, each.limit - each.spent - each.reserved))],
    ["Limit", (each) => amount(each.unit, each.limit)],
    ["Beyond what was held", (each) => (each.excess ? amount(each.unit, each.excess) : "")],
  ], (each) => `${each.level} ${each.unit}`, "No level has a budget.");
  const quotas = table("Quotas", [
    ["Subject", (each) => each.subject],
    ["At once", (each) => (each.at_once === null ? "" : `${each.used.running ?? 0} of ${each.at_once}`)],
    ["Each second", (each) => each.per_second ?? ""],
    ["Tokens a minute", (each) => (each.tokens_per_minute === null ? "" : `${(each.used.tokens ?? 0).toLocaleString()} of ${each.tokens_per_minute.toLocaleString()}`)],
    ["Open runs", (each) => (each.open_runs === null ? each.used.open_runs ?? "" : `${each.used.open_runs ?? 0} of ${each.open_runs}`)],
    ["Runs each second", (each) => each.runs_per_second ?? ""],
    ["Weight", (each) => each.weight],
  ], (each) => each.subject, "Nothing has a quota.");
  page.show(h("h1", {}, "Budgets and quotas"), h("h2", {}, "Budgets"), budgets, h("h2", {}, "Quotas"), quotas);
  repeated(async () => {
    const [spent, held] = await Promise.all(["v1/budgets", "v1/quotas"].map((path) => ask("GET", path, { signal: page.signal })));
    budgets.update(spent.budgets.flatMap((each) => Object.entries(each.units).map(([unit, said]) => ({ level: each.level, unit, ...said }))));
    quotas.update(held.quotas);
    page.settled();
  }, { signal: page.signal, ms: 5_000, failed: page.failed });
}

export async function audit(page) {
  page.title("Audit");
  const where = terms(page, { kind: "=", by: "~", subject: "~", since: "=" });
  const listed = table("Records, newest first", [
    ["When", (each) => when(each.at)],
    ["What", (each) => h("code", {}, each.kind)],
    ["Of", (each) => line(each.subject, 120)],
    ["By", (each) => line(each.by, 120)],
    ["Reason", (each) => line(each.reason, 200)],
    ["Detail", (each) => (Object.keys(each.detail).length ? folded(line(each.detail, 60), block(each.detail)) : "")],
  ], (each) => each.cursor, "No record is like that.");
  const { more } = listing(page, listed, { path: "v1/audit", field: "entries", where, limit: 100, ms: 10_000 });
  page.show(
    h("h1", {}, "Audit"),
    filter(page, [
      { name: "kind", label: "What, such as token.*" }, { name: "by", label: "By" }, { name: "subject", label: "Of" },
      { name: "since", label: "In", kind: "choice", choices: SINCE },
    ]),
    listed, more);
}
