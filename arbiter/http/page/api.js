// What this page asks of the server: the public API, with the token that somebody typed in, and nothing a browser sends by itself.

const KEPT = "arbiter-token";
const AGAIN_MS = 1000;
const REST_MS = 500;

let token = sessionStorage.getItem(KEPT) ?? "";

/** Something the API refused, as its problem details say. */
export class Problem extends Error {
  constructor(said, status) {
    const detail = said.detail ?? `The server answered ${status}.`;
    super(said.remedy && !detail.includes(said.remedy) ? `${detail} ${said.remedy}` : detail);
    this.status = said.status ?? status;
    this.scope = said.scope ?? "";
  }
}

export const signedIn = () => token !== "";

/** Take a token; it lasts as long as this tab. */
export function signIn(given) {
  token = given;
  sessionStorage.setItem(KEPT, given);
}

export function signOut() {
  token = "";
  sessionStorage.removeItem(KEPT);
}

function request(method, path, { query = {}, headers = {}, body, signal } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const words = new URLSearchParams(given.flatMap(([name, value]) => [value].flat().map((each) => [name, each])));
  const sent = { Authorization: `Bearer ${token}`, ...headers };
  if (body !== undefined && !("Content-Type" in sent)) sent["Content-Type"] = "application/json";
  return fetch(`/${path}${words.size ? `?${words}` : ""}`, {
    method, headers: sent, body: body === undefined || typeof body === "string" ? body : JSON.stringify(body), signal,
    credentials: "omit", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer",
  });
}

async function checked(answer) {
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Problem(said, answer.status);
}

/** The JSON that a request is answered with. */
export async function ask(method, path, more) {
  return (await checked(await request(method, path, more))).json();
}

/** What a request is answered with, as a file. */
export async function file(path, more) {
  return (await checked(await request("GET", path, more))).blob();
}

/** A part of a path. */
export const part = encodeURIComponent;

/**
 * Follow a stream of events until `over` says of one that it is the last. A connection that breaks is made anew behind the
 * last event that came; `state` is told whether there is one.
 */
export async function follow(path, { signal, heard, over = () => false, state = () => {} }) {
  let last = "";
  while (!signal.aborted) {
    try {
      const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
      const answer = await checked(await request("GET", path, { headers, signal }));
      state(true);
      for await (const frame of frames(answer.body)) {
        if (frame.event === "problem") throw new Problem(frame.data, frame.data.status);
        last = frame.id || last;
        heard(frame.data);
        if (over(frame.data)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status < 500) throw error;
    }
    state(false);
    await pause(AGAIN_MS, signal);
  }
}

async function* frames(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const text of parts) {
        const fields = text.split("\n").map((one) => [one.slice(0, one.indexOf(":")), one.slice(one.indexOf(":") + 2)]);
        const found = Object.fromEntries(fields);
        if (found.data) yield { ...found, data: JSON.parse(found.data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Wait, or until something is over. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

/**
 * Do something now, again when told to, and every so often while the page is looked at; never twice at a time, and with
 * rests as long as it takes, so that what is large does not keep the server busy.
 */
export function repeated(does, { signal, ms = 0, failed }) {
  let busy = false, wanted = false;
  const again = async () => {
    if (busy || signal.aborted) { wanted = true; return; }
    busy = true;
    try {
      do {
        wanted = false;
        const began = performance.now();
        try { await does(); } catch (error) { if (!signal.aborted) failed(error); }
        await pause(Math.max(REST_MS, performance.now() - began), signal);
      } while (wanted && !signal.aborted);
    } finally { busy = false; }
  };
  if (ms) {
    const timer = setInterval(() => { if (!document.hidden) again(); }, ms);
    signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  }
  again();
  return again;
}
