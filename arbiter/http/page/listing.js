// A list that the API gives in pages: kept up to date as far as somebody has asked for.

import { ask, repeated } from "./api.js";
import { button, h, keyed } from "./dom.js";

/**
 * Fill a table now, when told to and every so often. Returns what tells it to, and where the button for more stands.
 * `field` is where an answer has its rows; `where` is the filter.
 */
export function listing(page, table, { path, field, where, limit = 50, ms }) {
  const more = h("div", { class: "row" });
  let pages = 1;
  const again = repeated(async () => {
    const found = [];
    let after = "";
    for (let number = 0; number < pages && after !== null; number += 1) {
      const answer = await ask("GET", path, { query: { where, limit, after }, signal: page.signal });
      found.push(...answer[field]);
      after = answer.after;
    }
    table.update(found);
    keyed(more, after === null ? [] : ["more"], (each) => each, () => button("More", () => { pages += 1; again(); }));
    page.settled();
  }, { signal: page.signal, ms, failed: page.failed });
  return { again, more };
}
