// The tasks of a run and the steps of its plans: how each stands, what it waits for, what it returned.

import { part } from "./api.js";
import { badge, block, button, facts, folded, h, keyed, line, seconds, table, when } from "./dom.js";

const ROWS = 100;
const FIRST = ["running", "waiting", "delayed", "ready", "blocked"];

export const short = (task) => task.split("/").slice(1).join("/");
const name = (task) => `${task.round ? `${task.round}.` : ""}${task.key}`;

/** The tasks, each with when it could begin, and what people are told of one that is not over. */
export function told(tasks, steps) {
  const known = new Map(tasks.map((task) => [task.task, task]));
  const step = new Map(steps.flatMap((each) => each.tasks.map((id) => [id, each])));
  return tasks.map((task) => {
    const ends = task.after.map((id) => known.get(id)?.ended_at).filter(Boolean).map(Date.parse);
    const ready = Math.max(Date.parse(task.posted_at), ...ends);
    const waits = task.after.filter((id) => !known.get(id)?.completion).map(short);
    const begins = task.state === "delayed" && !task.retries.length ? ready / 1000 + (step.get(task.task)?.wait_seconds ?? 0) : null;
    return { ...task, ready, waits, begins, state: task.asked ? "waiting" : task.state };
  });
}

/** What a task that is not over waits for, or does; `link` makes of some words the way to whoever may end that. */
function stands(task, link = (words) => words) {
  const { asked, awaited } = task;
  if (asked) {
    const question = asked.kind === "question";
    const then = asked.otherwise === null ? (question ? "it stays unanswered" : "it is refused") : question ? `the answer is ${asked.otherwise}` : "it is approved";
    return [link(`waits for ${question ? "an answer" : "approval"}`), ` by ${asked.by.join(", ") || "a person"} until `,
      when(asked.until_ms / 1000), `, then ${then}`];
  }
  if (awaited) return ["waits for an answer from outside until ", when(awaited.until_ms / 1000)];
  if (task.state === "delayed") return task.retries.length ? "again soon" : ["begins at ", when(task.begins)];
  if (task.state === "ready") return "waits for a worker";
  return task.state === "blocked" ? `waits for ${line(task.waits.join(", "), 100)}` : "is at work";
}

/** What is going on in a run that is not over, in a few lines; `open` are its tasks that are not. */
export function now({ paused, open }) {
  const first = FIRST.flatMap((state) => open.filter((task) => task.state === state)).slice(0, 6);
  const rest = open.length - first.length;
  return h("section", {}, h("h2", {}, "Now"),
    paused ? h("p", {}, "It rests until ", when(paused.until_ms / 1000), `, or until somebody resumes it: ${line(paused.reason, 300)}`) : null,
    open.length || paused ? null : h("p", {}, "The next decision is being taken, or waits for a process that plans."),
    first.length ? h("ul", { class: "now" }, first.map((task) => h("li", {}, badge(task.state), " ", h("b", {}, name(task)), ` ${task.capability === task.key ? "" : task.capability} `, stands(task, (words) => h("a", { href: "#/waiting" }, words))))) : null,
    rest ? h("p", { class: "quiet" }, `and ${rest.toLocaleString()} more`) : null);
}

/** A table of tasks of which those of one state can be looked at alone, so many at a time. */
export function tasksTable() {
  const listed = table("Tasks", [
    ["Task", (task) => h("span", { id: `task-${task.key}` }, name(task))],
    ["Capability", (task) => [task.kind === "fabrication" ? "fabrication" : h("a", { href: `#/capabilities/${part(task.capability)}${task.version ? `?sha=${task.version}` : ""}` }, task.capability)]],
    ["State", (task) => badge(task.state)],
    ["Isolation", (task) => task.completion?.isolation ?? ""],
    ["Attempts", (task) => (task.completion?.taken_over_from ? "taken over" : task.attempts || "")],
    ["Took", (task) => (task.ended_at && task.attempts ? seconds((new Date(task.ended_at) - task.ready) / 1000) : "")],
    ["Tokens", (task) => { const used = task.completion?.usage; return used && used.input_tokens + used.output_tokens ? (used.input_tokens + used.output_tokens).toLocaleString() : ""; }],
    ["Result", result],
  ], (task) => task.task, "No task yet.");
  const states = h("div", { class: "row", role: "group", "aria-label": "Tasks in which state" }), more = h("div", { class: "row" });
  let all = [], only = "", rows = ROWS;
  function show() {
    const counts = new Map();
    for (const task of all) counts.set(task.state, (counts.get(task.state) ?? 0) + 1);
    if (!counts.has(only)) only = "";
    const choices = (counts.size > 1 ? [["", all.length], ...counts] : []).map(([state, number]) => ({ state, number, chosen: state === only }));
    keyed(states, choices, (each) => each.state, ({ state, number, chosen }) => {
      const choice = button(`${state ? state.replaceAll("_", " ") : "all"} ${number.toLocaleString()}`, () => { only = state; rows = ROWS; show(); });
      choice.setAttribute("aria-pressed", String(chosen));
      return choice;
    });
    const meant = only ? all.filter((task) => task.state === only) : all;
    listed.update(meant.slice(0, rows));
    keyed(more, meant.length > rows ? [meant.length] : [], () => "more", (number) =>
      button(`Show more of ${number.toLocaleString()}`, () => { rows += ROWS; show(); }));
  }
  const made = h("div", {}, states, listed, more);
  made.update = (tasks) => { all = tasks; show(); };
  return made;
}

function result(task) {
  const done = task.completion, error = done?.error ?? task.retries.at(-1);
  const why = error ? h("span", { class: "wrong" }, line(`${error.type}: ${error.message}`, 160)) : null;
  const said = done ? why ?? line(done.data ?? "", 100) : [stands(task), why && [", after ", why]];
  const inside = () => h("div", {}, facts([
    ["Input", block(task.input)],
    ["Result", done && done.data !== null ? block(done.data) : ""],
    ["Error", error ? block(error.message) : ""],
    ...evidence(error),
    ["Taken over from", done?.taken_over_from && h("a", { href: `#/runs/${part(done.taken_over_from.split("/")[0])}` }, done.taken_over_from)],
    ["Waited for", task.after.map(short).join(", ")],
    ["Comes from", task.sources.join(", ")],
    ["Worker", done?.worker],
    ["Standard output", done?.stdout ? block(done.stdout) : ""],
    ["Standard error", done?.stderr ? block(done.stderr) : ""],
  ]));
  const ended = task.stages.filter((stage) => stage.outcome !== "started");
  const stages = !ended.length ? null : folded(`${ended.length} stage${ended.length === 1 ? "" : "s"}, ${ended.filter((stage) => stage.outcome === "failed").length} failed`,
    h("ul", { class: "stages" }, ended.map((stage) => h("li", {}, badge(stage.outcome),
      ` ${stage.stage.replaceAll("_", " ")}${stage.round ? ` (repair ${stage.round})` : ""} `, h("small", {}, line(stage.detail, 200))))),
    !task.completion);
  return [folded(said || "details", inside), stages];
}

/** What an error has beside its message, as facts: the traceback as its author knows it, the rest as JSON. */
export function evidence(error) {
  const { traceback, ...rest } = error?.evidence ?? {};
  return [
    ["Traceback", traceback ? block([traceback].flat().join("\n")) : ""],
    ["Evidence", Object.keys(rest).length ? block(rest) : ""],
  ];
}

const STANDING = { held: "not yet", going: "at work" };

/** The steps of a run's plans, where they tell more than its tasks: of one that was skipped, is held back, or has many tasks. */
export function steps(list) {
  const shown = table("Steps of the plan", [
    ["Step", (step) => step.key],
    ["Capability", (step) => h("a", { href: `#/capabilities/${part(step.capability)}` }, step.capability)],
    ["State", (step) => badge(step.state, STANDING[step.state])],
    ["Items", items],
    ["Comes after", (step) => step.after.join(", ")],
    ["Reason", (step) => line(step.why, 200)],
  ], (step) => `${step.round} ${step.key}`, "");
  shown.update(list);
  return h("section", {}, h("h2", {}, "Steps of the plan"), shown);
}

function items(step) {
  if (step.items === null) return "";
  const ended = step.succeeded + step.failed;
  return [h("meter", { min: 0, max: Math.max(step.items, 1), value: ended, "aria-label": `items of ${step.key} that ended` }),
    ` ${ended.toLocaleString()} of ${step.items.toLocaleString()}`, step.failed ? h("span", { class: "wrong" }, `, ${step.failed} failed`) : ""];
}

export const dynamic = (list) => list.some((step) => step.items !== null || step.tasks.length !== 1);
