// The agenda of a run: what waits on it, what was picked, and why.

import { ask, part } from "./api.js";
import { confirmed } from "./dialogs.js";
import { badge, button, h, line, table } from "./dom.js";

const MOST = 200;
const REASON = { name: "reason", label: "Reason, for the record" };

/** A section with the newest activations; its `look()` brings it up to date. */
export function agenda(page, place) {
  const why = page.lacks("runs:write");
  const change = (one, verb, title) => button(title, async () => {
    const done = await confirmed({
      title: `${title} activation ${number(one)} of ${one.capability}?`, action: title, fields: [REASON],
      does: ({ reason }) => ask("POST", `${place}/agenda/${number(one)}/${verb}`, { body: { reason } }),
    });
    if (done) made.look().catch(page.failed);
  }, { why });
  const listed = table("Activations", [
    ["Number", number],
    ["Capability", (one) => h("a", { href: `#/capabilities/${part(one.capability)}?sha=${part(one.version)}` }, one.capability)],
    ["State", (one) => badge(one.state)],
    ["Rating", (one) => (one.rating === undefined || one.rating === null ? "" : one.rating.toLocaleString())],
    ["Triggered by", (one) => [line(one.topic, 100), one.parent ? h("small", {}, ` after ${one.parent}`) : ""]],
    ["Reason", (one) => line(one.why ?? "", 200)],
    ["Actions", (one) => h("div", { class: "row" }, button("Why", () => explain(page, place, one)),
      one.state === "waiting" || one.state === "parked" ? [change(one, "promote", "Promote"), change(one, "block", "Block")] : null,
      one.state === "blocked" ? change(one, "unblock", "Unblock") : null)],
  ], (one) => one.id, "Nothing was triggered yet.");
  const rating = h("p", { class: "quiet" });
  const made = h("section", {}, h("h2", {}, "Agenda"), rating, listed);
  made.look = async () => {
    const [found, strategy] = await Promise.all([`${place}/agenda`, `${place}/agenda/strategy`].map((path, which) =>
      ask("GET", path, { query: which ? {} : { limit: MOST }, signal: page.signal })));
    listed.update(found.activations);
    rating.textContent = [`Rated by ${strategy.strategy}.`, strategy.trouble, found.after === null ? "" : `The first ${MOST} are shown.`].filter(Boolean).join(" ");
  };
  return made;
}

const number = (one) => one.id.split("/").at(-1);

async function explain(page, place, one) {
  const found = await ask("GET", `${place}/agenda/${number(one)}`, { signal: page.signal });
  await confirmed({
    title: `Activation ${number(one)} of ${one.capability}: ${found.outcome || found.state}`,
    shown: h("ol", {}, found.steps.map((step) => h("li", {}, step.what))),
  });
}
