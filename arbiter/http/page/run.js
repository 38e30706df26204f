// One run: what was asked, how far it is, what each task did, and its events as they come.

import { ask, file, follow, part, repeated } from "./api.js";
import { confirmed } from "./dialogs.js";
import { agenda } from "./agenda.js";
import { badge, block, button, facts, folded, h, keyed, line, seconds, when } from "./dom.js";
import { dynamic, evidence, now, short, steps, tasksTable, told } from "./tasks.js";

const EVENTS = 300, DRAW_MS = 100;
const OVER = ["succeeded", "failed", "refused", "timed_out", "cancelled"];
const dark = matchMedia("(prefers-color-scheme: dark)");

export async function run(page, id) {
  page.title(`Run ${id}`);
  const place = `v1/runs/${part(id)}`;
  const head = h("div"), body = h("div"), rounds = h("div"), pictures = h("div"), live = h("span", { class: "live" });
  const going = h("div"), plan = h("div"), control = h("div"), tasks = tasksTable();
  const events = h("ol", { class: "events", tabindex: "0", "aria-label": "Events" }), left = h("p", { class: "quiet" });
  const nothing = h("p", { class: "quiet" }, "No task yet.");
  let drawn = "", heard = [], count = 0, due = false, over = false, terms = null;

  async function look() {
    const query = { level: `run:${id}` };
    const [state, spent] = await Promise.all([
      ask("GET", place, { signal: page.signal }),
      page.lacks("limits:read") ? null : ask("GET", "v1/budgets", { query, signal: page.signal }),
    ]);
    keyed(head, [{ status: state.status }], () => "head", () => heading(page, id, state, again));
    keyed(body, sections(state, spent), (each) => each.name, section);
    const turns = state.round_list.length ? [{ turns: state.round_list, answer: state.answer }] : [];
    keyed(rounds, turns, () => "rounds", roundsOf);
    const list = told(state.task_list, state.step_list);
    keyed(going, OVER.includes(state.status) || state.call && !list.length ? [] : [{ paused: state.paused, open: list.filter((task) => !task.completion) }], () => "now", now);
    keyed(plan, dynamic(state.step_list) ? [state.step_list] : [], () => "plan", steps);
    tasks.update(list);
    nothing.hidden = state.task_list.length > 0;
    tasks.hidden = !nothing.hidden;
    if (state.agenda && !terms) control.append(terms = agenda(page, place));
    await Promise.all([draw(state), terms?.look()]);
    over = OVER.includes(state.status);
    page.settled();
  }

  async function draw(state) {
    if (!state.task_list.length) return;
    const paper = dark.matches ? "dark" : "light";
    const stand = JSON.stringify([paper, state.task_list.map((task) => [task.task, task.state]), state.status]);
    if (stand === drawn) return;
    const made = await Promise.all(["plan", "timeline"].map(async (of) => {
      const url = URL.createObjectURL(await file(`${place}/picture`, { query: { of, paper }, signal: page.signal }));
      const name = of === "plan" ? "Plan" : "Timeline";
      const said = `${name} of ${state.rounds} rounds and ${state.task_list.length} tasks; the table of tasks says the same in words`;
      const image = h("img", { alt: said });
      image.src = url;
      image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
      return h("figure", {}, h("figcaption", {}, name), h("div", { class: "scroll", tabindex: "0" }, image));
    }));
    pictures.replaceChildren(...made);
    drawn = stand;
  }

  function tell() {
    due = false;
    const below = events.scrollHeight - events.scrollTop - events.clientHeight < 40;
    keyed(events, heard, (each) => each.sequence, eventLine);
    if (below) events.scrollTop = events.scrollHeight;
    left.textContent = count > heard.length ? `The latest ${heard.length} of ${count.toLocaleString()}.` : "";
  }

  page.show(head, going, body, pictures, plan, h("h2", {}, "Tasks"), nothing, tasks, control, rounds,
    h("div", { class: "row" }, h("h2", {}, "Events"), live), left, events);
  const again = repeated(async () => { if (!over) await look(); }, { signal: page.signal, ms: 5_000, failed: page.failed });
  const turned = () => { over = false; again(); };
  dark.addEventListener("change", turned);
  page.signal.addEventListener("abort", () => dark.removeEventListener("change", turned), { once: true });
  follow(`${place}/events`, {
    signal: page.signal,
    state: (there) => { live.textContent = there ? "live" : ""; },
    heard: (event) => {
      count += 1;
      heard.push(event);
      if (heard.length > EVENTS) heard.shift();
      if (!due) setTimeout(tell, DRAW_MS);
      due = true;
      again();
    },
    over: (event) => kind(event) === "run.completed",
  }).then(() => { live.textContent = ""; }).catch(page.failed);
}

function heading(page, id, state, again) {
  const over = OVER.includes(state.status), why = page.lacks("runs:write") || (over ? "The run is over." : "");
  const asked = (title, action, path, kind) => async () => {
    const done = await confirmed({
      title, action, kind, shown: h("p", {}, h("code", {}, id), " ", line(state.call ? { [state.call.capability]: state.request } : state.request, 300)),
      fields: path === "resume" ? [] : [{ name: "reason", label: "Reason, for the record" }],
      does: ({ reason }) => ask("POST", `v1/runs/${part(id)}/${path}`, { body: reason ? { reason } : {} }),
    });
    if (done) again();
  };
  const rerun = async () => {
    const made = await confirmed({
      title: "Go on from this run?", action: "Rerun", kind: "",
      shown: h("p", {}, "A new run of the same request takes over what succeeded here and does the rest."),
      does: () => ask("POST", `v1/runs/${part(id)}/rerun`, { body: {} }),
    });
    if (made) location.hash = `#/runs/${part(made.run_id)}`;
  };
  return h("div", { class: "row" }, h("h1", {}, "Run ", h("code", {}, id)), badge(state.status), h("span", { class: "space" }),
    over ? state.call ? null : button("Rerun", rerun, { why: page.lacks("runs:write") }) : [
      state.status === "paused"
        ? button("Resume", asked("Let this run go on?", "Resume", "resume", ""), { why })
        : button("Pause", asked("Let this run rest?", "Pause", "pause", ""), { why }),
      button("Cancel", asked("Stop this run?", "Cancel the run", "cancel", "danger"), { why, kind: "danger" }),
    ]);
}

function sections(state, spent) {
  const money = spent?.budgets.flatMap((each) => (each.units.money ? [each.units.money] : []))[0];
  const told = {
    name: "facts", called: Boolean(state.call), accepted: state.accepted_at, ended: state.ended_at, took: state.seconds, tenant: state.tenant,
    rounds: state.rounds, decisions: state.round_list.filter((turn) => !turn.attending).length, tasks: state.tasks, fabrications: state.fabrications, model: state.model, usage: state.usage,
    sources: state.sources, redrive: state.redrive_of, rerun: state.rerun_of, limits: state.limits, money,
  };
  return [
    told,
    { name: "request", request: state.request, call: state.call ?? null },
    state.error && { name: "error", error: state.error },
    (state.answer || state.data !== undefined && state.data !== null) && { name: "answer", answer: state.answer ?? state.data },
  ].filter(Boolean);
}

function section(each) {
  switch (each.name) {
    case "facts": {
      const used = each.usage, about = used.estimated ? "about " : "";
      const tokens = used.input_tokens + used.output_tokens;
      return facts([
        ["Accepted", when(each.accepted)], ["Ended", when(each.ended)], ["Took", seconds(each.took)], ["Tenant", each.tenant],
        ["Rounds", each.called ? "" : `${each.decisions} of ${each.limits.rounds}${each.rounds > each.decisions ? `, and ${each.rounds - each.decisions} without the model` : ""}`], ["Tasks", `${each.tasks} of ${each.limits.tasks}`],
        ["Fabrications", each.fabrications || ""],
        ["Tokens", `${about}${tokens.toLocaleString()} (${used.input_tokens.toLocaleString()} in, ${used.output_tokens.toLocaleString()} out) of ${each.limits.tokens.toLocaleString()}`],
        ["Model calls", used.model_calls || ""],
        ["Cost", each.money ? `${(each.money.spent / 1e6).toFixed(4)} of ${(each.money.limit / 1e6).toFixed(2)}` : ""],
        ["Model", each.model], ["Comes from", each.sources.join(", ")],
        ["Goes on from", each.rerun && h("a", { href: `#/runs/${part(each.rerun)}` }, each.rerun)],
        ["Put back from", each.redrive && h("a", { href: `#/dead-letters/${part(each.redrive)}` }, each.redrive)],
      ]);
    }
    case "request":
      return h("section", {}, h("h2", {}, each.call ? `Calls ${each.call.capability}` : "Request"), block(each.request));
    case "error":
      return h("section", { class: "failure" }, h("h2", {}, each.error.type), h("p", { class: "long" }, each.error.message),
        facts(evidence(each.error)));
    default:
      return h("section", {}, h("h2", {}, "Answer"), block(each.answer));
  }
}

function roundsOf({ turns, answer }) {
  return h("section", {}, h("h2", {}, "Rounds"), groups(turns).map((some) => (some[0].attending
    ? folded(`${some.length === 1 ? `Round ${some[0].round}` : `Rounds ${some[0].round} to ${some.at(-1).round}`}, without the model`, () => some.map((turn) => round(turn, answer)))
    : round(some[0], answer))));
}

/** Rounds that follow each other without the model are told together. */
function groups(turns) {
  const found = [];
  for (const turn of turns) {
    if (turn.attending && found.at(-1)?.[0].attending) found.at(-1).push(turn); else found.push([turn]);
  }
  return found;
}

function round(turn, answer) {
  const parts = Array.isArray(turn.message.content) ? turn.message.content : [];
  const words = parts.filter((one) => typeof one?.text === "string").map((one) => one.text).join("\n");
  const given = new Map(parts.filter((one) => one?.toolUse).map((one) => [one.toolUse.toolUseId, one.toolUse.input]));
  const calls = turn.calls.map((call) => folded(
    [h("code", {}, call.name), call.valid ? "" : " (invalid)", call.tasks.length ? ` → ${call.tasks.map(short).join(", ")}` : ""],
    h("div", {}, block(given.get(call.tool_use_id) ?? {}), call.answer ? [h("p", {}, "Answered:"), block(call.answer)] : null)));
  const used = turn.usage.input_tokens + turn.usage.output_tokens;
  return h("article", {}, h("h3", {}, `Round ${turn.round} `, h("small", {}, when(turn.at), `, ${used.toLocaleString()} tokens`)),
    !words ? null : words === answer ? h("p", {}, "The answer.") : block(words), calls,
    turn.matches.length ? folded(`What the matcher decided (${turn.matches.length})`, block(turn.matches)) : null);
}

/** The type of an event without whose it is and which version. */
const kind = (event) => event.type.replace(/^dev\.arbiter\./, "").replace(/\.v\d+$/, "");
function eventLine(event) {
  const data = event.data ?? {};
  const words = [data.status, data.outcome, data.stage, data.capability ?? data.node, data.topic, data.calls?.map((call) => call.name).join(", "), data.reason, data.error && `${data.error.type}: ${data.error.message}`];
  return h("li", {}, when(event.time), " ", h("code", {}, kind(event)), " ", event.subject === event.partitionkey ? "" : `${short(event.subject) || event.subject} `,
    line(words.filter((word) => typeof word === "string" && word).join(" · "), 200));
}
