// The page asks the gateway as any client does: GET /v1/models, POST /v1/chat/completions. Nothing is stored.
"use strict";

const LOOK_EVERY_MS = 5000;
const EXAMPLE = "Why is the sky blue?";
const STATES = {
  ready: "ready",
  waiting: "no node at present",
  starting: "starting",
  draining: "shutting down",
  paused: "paused",
  rate_limited: "rate limited",
  quota_exhausted: "quota exhausted",
  authentication_failed: "key refused by the provider",
  misconfigured: "misconfigured",
  unreachable: "provider unreachable",
};
const CALM = ["ready", "waiting", "starting", "draining", "paused"];
const NO_KEY = "This gateway needs an API key to show its models. Enter yours above.";
const UNREACHABLE = "The gateway cannot be reached. Is it running, and is the network up?";

const at = (id) => document.getElementById(id);
let key = "";
let chosen = "";
let running = null;
let looks = 0;
let listed = "";

class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const headers = () => (key ? { authorization: `Bearer ${key}` } : {});

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", credentials: "omit", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(UNREACHABLE, 0);
  }
  if (!response.ok) throw new Refused(await sentence(response), response.status);
  return response;
}

async function sentence(response) {
  let said;
  try {
    said = (await response.json()).error.message;
  } catch {
    said = `The gateway answered with the status ${response.status} and no explanation.`;
  }
  const id = response.headers.get("x-request-id");
  const wait = response.headers.get("retry-after");
  return [said, wait && `Try again in ${wait} s.`, id && `(Request ${id})`].filter(Boolean).join(" ");
}

// Models

async function look() {
  const mine = ++looks;
  try {
    const found = (await (await ask("/v1/models", { headers: headers() })).json()).data;
    if (mine !== looks) return;
    say(found.length ? "" : "No model is here yet. Start a node: it appears by itself within seconds.");
    showModels(found);
  } catch (error) {
    if (mine !== looks) return;
    if (error.status === 401) {
      showModels([]);
      at("key-section").hidden = false; // a gateway that lets everyone in has no use for it
      at("key").setAttribute("aria-invalid", String(key !== ""));
      say(key ? "The gateway does not accept this API key. Enter another one above." : NO_KEY, key !== "");
      return; // asking again makes sense with another key only
    }
    say(error instanceof Refused ? error.message : "The list of models could not be read.", true);
  }
  setTimeout(() => mine === looks && lookIfSeen(), LOOK_EVERY_MS);
}

function lookIfSeen() {
  if (document.visibilityState === "visible") look();
}

function say(text, bad = false) {
  const notice = at("models-notice");
  if (notice.textContent !== text) notice.textContent = text;
  notice.classList.toggle("bad", bad);
}

function showModels(found) {
  const list = at("models");
  const told = JSON.stringify(found);
  if (told !== listed) list.replaceChildren(...found.map(shown)); // else what somebody marks there would vanish
  listed = told;
  if (list.scrollHeight > list.clientHeight) list.tabIndex = 0;
  else list.removeAttribute("tabindex");
  const served = ({ endpoints }) => !endpoints?.length || endpoints.includes("chat/completions");
  const chats = found.filter((model) => served(model.workernode ?? {}));
  const select = at("model");
  const names = chats.map((model) => model.id);
  if ([...select.options].map((each) => each.value).join("\n") !== names.join("\n")) {
    select.replaceChildren(...names.map((name) => new Option(name, name)));
  }
  if (!names.includes(chosen)) {
    chosen = (chats.find((model) => model.workernode?.state === "ready") ?? chats[0])?.id ?? "";
  }
  select.value = chosen;
  select.disabled = !names.length;
  at("send").disabled = !names.length || running !== null;
  const state = chats.find((model) => model.id === chosen)?.workernode?.state;
  at("model-hint").textContent =
    found.length && !chats.length
      ? "No model here takes part in conversations."
      : state === "waiting"
        ? "No node serves this model at present: a prompt waits until one comes."
        : "";
  showPrograms();
}

function shown(model) {
  const about = model.workernode ?? {};
  const item = made("li");
  const top = item.appendChild(made("div", "", "top"));
  top.append(made("strong", model.id));
  const kind = about.state === "ready" ? "ready" : CALM.includes(about.state) ? "" : "trouble";
  top.append(made("span", STATES[about.state] ?? about.state ?? "unknown", `state ${kind}`));
  const facts = [
    about.alias_of && `another name of ${about.alias_of}`,
    about.nodes && `${about.nodes} ${about.nodes === 1 ? "node" : "nodes"}`,
    about.slots ? `${about.busy} of ${about.slots} places busy` : "",
    about.context_length ? `context of ${about.context_length.toLocaleString("en")} tokens` : "",
    about.endpoints?.join(", "),
    about.aliases?.length ? `also called ${about.aliases.join(", ")}` : "",
  ].filter(Boolean);
  for (const text of [about.description, facts.join(" · "), about.sentence]) if (text) item.append(made("p", text));
  return item;
}

function made(kind, text = "", classes = "") {
  const element = document.createElement(kind);
  element.textContent = text;
  element.className = classes.trim();
  return element;
}

// A prompt

async function send() {
  const text = at("prompt").value.trim();
  if (running || !chosen) return;
  if (!text) {
    fail("Write a prompt first.");
    at("prompt").focus();
    return;
  }
  running = new AbortController();
  busy(true);
  fail("");
  at("answer").textContent = "";
  at("progress").textContent = "Waiting for the model…";
  const measured = { started: performance.now(), first: 0, usage: null, reason: "", cut: "" };
  try {
    await receive(question(chosen, text, { stream: true, stream_options: { include_usage: true } }), measured);
    at("progress").textContent = summary(measured);
  } catch (error) {
    const partly = at("answer").textContent ? "What came until then stands above." : "";
    if (error.name === "AbortError") {
      at("progress").textContent = `Cancelled. ${partly}`;
    } else {
      at("progress").textContent = partly;
      fail(error instanceof Refused ? error.message : "The answer broke off: the connection was lost.");
      if (error.status === 401) look();
    }
  }
  running = null;
  busy(false);
}

async function receive(body, measured) {
  const response = await ask("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers() },
    body: JSON.stringify(body),
    signal: running.signal,
  });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Refused(chunk.error.message, 0);
    if (chunk.usage) measured.usage = chunk.usage;
    const choice = chunk.choices?.[0];
    if (choice?.finish_reason) measured.reason = choice.finish_reason;
    const piece = choice?.delta?.content || choice?.delta?.refusal;
    if (piece) append(piece, measured);
    else if (!measured.first && (choice?.delta?.reasoning_content || choice?.delta?.reasoning)) {
      at("progress").textContent = "The model is thinking…";
    }
  }
  throw new Refused("The answer broke off before its end.", 0);
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6); // the others keep the line alive
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function append(piece, measured) {
  const box = at("answer");
  if (!measured.first) {
    measured.first = performance.now();
    at("progress").textContent = "Answering…";
  }
  const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
  box.append(piece);
  if (follows) box.scrollTop = box.scrollHeight;
}

function summary({ started, first, usage, reason }) {
  const seconds = (since) => `${((since - started) / 1000).toFixed(2)} s`;
  const parts = [`Done in ${seconds(performance.now())}`];
  if (first) parts.push(`first text after ${seconds(first)}`);
  if (usage) parts.push(`${usage.prompt_tokens} ${usage.prompt_tokens === 1 ? "token" : "tokens"} in, ${usage.completion_tokens} out`);
  const ends = {
    length: " The answer was cut off at its greatest length.",
    content_filter: " The provider's filter withheld the rest.",
  };
  return `${parts.join(" · ")}.${ends[reason] ?? ""}`;
}

function busy(is) {
  at("send").disabled = is || !chosen;
  at("cancel").disabled = !is;
  at("answer").setAttribute("aria-busy", String(is));
}

function fail(text) {
  at("error").textContent = text;
  at("error").hidden = !text;
}

// The same from a program. The key itself is never written into it.

const question = (model, text, more = {}) => ({ model, messages: [{ role: "user", content: text }], ...more });

function showPrograms() {
  const text = at("prompt").value.trim() || EXAMPLE;
  const model = chosen || "MODEL";
  const base = `${location.origin}/v1`;
  const body = JSON.stringify(question(model, text, { stream: true })).replaceAll("'", "'\\''");
  at("curl").textContent = [
    `curl -N ${base}/chat/completions \\`,
    ...(key ? ['  -H "authorization: Bearer $API_KEY" \\'] : []),
    "  -H 'content-type: application/json' \\",
    `  -d '${body}'`,
  ].join("\n");
  at("python").textContent = [
    ...(key ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${base}", api_key=${key ? 'os.environ["API_KEY"]' : '"not needed"'})`,
    "stream = client.chat.completions.create(",
    `    model=${JSON.stringify(model)},`,
    `    messages=[{"role": "user", "content": ${JSON.stringify(text)}}],`,
    "    stream=True,",
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    '        print(chunk.choices[0].delta.content or "", end="", flush=True)',
  ].join("\n");
}

async function copy(id) {
  const range = document.createRange();
  range.selectNodeContents(at(id));
  let done = false;
  try {
    await navigator.clipboard.writeText(at(id).textContent);
    done = true;
  } catch {
    // Without HTTPS a browser has no such clipboard; the old way copies what is selected.
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    done = document.execCommand("copy");
  }
  at("copied").textContent = done ? "Copied." : "This browser does not let the page copy. The text is selected for you.";
}

// Wiring

at("address").textContent = `${location.origin}/v1`;
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key").value.trim();
  if (!/^[!-~]*$/.test(key)) {
    key = "";
    at("key").setAttribute("aria-invalid", "true");
    say("An API key has only plain letters, digits and signs, without spaces.", true);
    return;
  }
  at("key").setAttribute("aria-invalid", "false");
  showPrograms();
  look();
});
at("model").addEventListener("change", (event) => {
  chosen = event.target.value;
  at("model-hint").textContent = "";
  showPrograms();
});
at("prompt").addEventListener("input", showPrograms);
at("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    send();
  }
});
at("try").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
at("cancel").addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());
document.addEventListener("visibilitychange", lookIfSeen);
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", () => copy(button.dataset.copies));
}
showModels([]);
look();
