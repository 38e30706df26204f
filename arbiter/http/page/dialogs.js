// Questions before something is done: what it is, word for word, and a word of the person who says so.

import { button, h } from "./dom.js";

/**
 * Ask before something is done, do it, and stay open with what went wrong where it fails.
 * `shown` is what it is about; without `action` it is only told; `fields` are {name, label, value, required, kind}; `does(values)` does it.
 * Resolves to what `does` returned, or to undefined where nothing was done.
 */
export function confirmed({ title, shown = null, fields = [], action = "", kind = "", does = null }) {
  return new Promise((resolve) => {
    const wrong = h("p", { class: "wrong", role: "alert" });
    const asked = fields.map((field) => [field, input(field)]);
    const go = h("button", { type: "submit", class: kind || "first" }, action);
    const form = h("form", { on: { submit: carry } },
      asked.map(([field, control]) => labelled(field, control)), wrong,
      h("div", { class: "row" }, action ? go : null, button("Back", () => dialog.close())));
    const dialog = h("dialog", { "aria-labelledby": "question" }, h("h2", { id: "question" }, title), shown, form);
    let done;

    async function carry(event) {
      event.preventDefault();
      wrong.textContent = "";
      go.disabled = true;
      try {
        done = await does(Object.fromEntries(asked.map(([field, control]) => [field.name, read(field, control)])));
        dialog.close();
      } catch (error) {
        wrong.textContent = error.message;
        go.disabled = false;
      }
    }

    dialog.addEventListener("close", () => { dialog.remove(); resolve(done); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function input({ kind = "text", value = "", required = false, choices = [], hint = "", name = "" }) {
  if (kind === "choice") {
    return h("select", { name }, choices.map(([word, label]) => h("option", { value: word, selected: word === value }, label)));
  }
  if (kind === "text area") {
    const area = h("textarea", { name, rows: "4", required, placeholder: hint || null });
    area.value = value;
    return area;
  }
  const made = h("input", { name, type: kind, required, placeholder: hint || null, autocomplete: "off", spellcheck: "false" });
  if (kind === "checkbox") made.checked = Boolean(value); else made.value = value;
  return made;
}

const read = (field, control) => (field.kind === "checkbox" ? control.checked : control.value.trim());

export function labelled(field, control) {
  const tick = field.kind === "checkbox";
  return h("label", { class: tick ? "tick" : "" }, tick ? control : h("span", {}, field.label), tick ? h("span", {}, field.label) : control);
}

/** A form above a list. What it says stands in the address, so that it can be kept and sent to others. */
export function filter(page, fields) {
  const controls = fields.map((field) => [field, input({ ...field, value: page.query.get(field.name) ?? field.value ?? "" })]);
  const go = (event) => {
    event.preventDefault();
    const words = controls.map(([field, control]) => [field.name, control.value.trim()]).filter(([, value]) => value);
    location.hash = `#/${page.path}${words.length ? `?${new URLSearchParams(words)}` : ""}`;
  };
  return h("form", { class: "filter", role: "search", on: { submit: go } },
    controls.map(([field, control]) => labelled(field, control)), h("button", { type: "submit" }, "Find"));
}

/** Terms of a filter as the API takes them; quotation marks cannot stand in a value. */
export function terms(page, signs) {
  return Object.entries(signs).map(([name, sign]) => [name, sign, (page.query.get(name) ?? "").replaceAll('"', "")])
    .filter(([, , value]) => value).map(([name, sign, value]) => `${name}${sign}"${value}"`).join(" ");
}

export const SINCE = [["", "any time"], ["15m", "the last 15 minutes"], ["1h", "the last hour"], ["1d", "the last day"], ["7d", "the last week"]];
