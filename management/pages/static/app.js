// The switch of colours, the keyboard, and what is live. Every page works without this file.
"use strict";

const THEMES = ["auto", "light", "dark"];
const THEME_S = 365 * 86400;
const GO_MS = 1500;
const REOPEN_MS = 5000;
const AGAIN_MS = 30000;
const ONCE_MS = 6000;
const html = document.documentElement;
const find = (selector) => document.querySelector(selector);

function switchTheme() {
  const theme = THEMES[(THEMES.indexOf(html.dataset.theme) + 1) % THEMES.length];
  html.dataset.theme = theme;
  document.cookie = `theme=${theme}; path=/; max-age=${THEME_S}; samesite=strict`;
  find("#theme span").textContent = theme[0].toUpperCase() + theme.slice(1);
  find("#theme").setAttribute("aria-label", `Colours: ${theme}`);
  document.dispatchEvent(new Event("theme"));
}

// --- the keyboard

let wentAt = -Infinity;

function stepRow(step) {
  const rows = [...document.querySelectorAll(".rows .head a")];
  const next = rows.indexOf(document.activeElement) + step;
  rows[Math.max(0, Math.min(rows.length - 1, next))]?.focus();
}

function closeMenu(focuses) {
  const menu = find(".narrow[open]");
  if (!menu) return;
  menu.open = false;
  if (focuses) menu.firstElementChild.focus();
}

const KEYS = {
  "?": () => find("dialog#keys")?.showModal(),
  "/": () => find(".filters input, .filters select, .find input")?.focus(),
  t: switchTheme,
  j: () => stepRow(1),
  k: () => stepRow(-1),
  g: () => { wentAt = performance.now(); },
};

function onKey(event) {
  if (event.key === "Escape") return closeMenu(true);
  const writes = event.target.closest?.("input, select, textarea, dialog");
  if (writes || event.ctrlKey || event.metaKey || event.altKey) return;
  const goes = performance.now() - wentAt < GO_MS;
  const link = goes ? [...document.querySelectorAll("[data-letter]")].find((each) => each.dataset.letter === event.key) : null;
  wentAt = -Infinity;
  const does = link ? () => link.click() : KEYS[event.key];
  if (!does) return;
  event.preventDefault();
  does();
}

// --- what is live

let source = null;
const LIVE = ["requests", "nodes", "health"];
let hears = false; // a stream is open
let fails = false; // what was looked for last did not come: the figures are old ones
let missed = false; // whatever changed while no stream was open
const suppressed = new Set();

function showLive() {
  const state = !hears || fails ? "Not live" : suppressed.size ? "Held while you read" : "Live";
  const live = find("#live");
  live.dataset.state = state === "Live" ? "on" : "off";
  if (live.textContent !== state) live.firstElementChild.textContent = state;
}

function hear(is) {
  hears = is;
  missed ||= !is;
  showLive();
}

function announce(names) {
  for (const name of names) document.body.dispatchEvent(new Event(`live-${name}`));
}

function listen() {
  if (source || document.hidden) return;
  source = new EventSource("/live");
  source.addEventListener("ready", () => {
    hear(true);
    if (missed) announce(LIVE);
    missed = false;
  });
  source.addEventListener("changed", (event) => announce(event.data.split(" ")));
  source.onerror = () => {
    hear(false);
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    source = null;
    setTimeout(listen, REOPEN_MS);
  };
}

function lookAgain() {
  // Ages grow though nothing happens; and who is logged out learns it, and does not read old figures as new ones.
  if (!document.hidden) announce(LIVE);
}

function onVisibility() {
  // A browser has few connections to one host: a page that nobody sees keeps none.
  if (!document.hidden) return listen();
  source?.close();
  source = null;
  hear(false);
}

// --- forms and parts

function withoutEmpty(event) {
  const { request } = event.detail.ctx;
  for (const [name, value] of [...request.body]) if (value === "") request.body.delete(name);
}

function onSubmit(event) {
  // An action may take five seconds: who presses twice means it once.
  const form = event.target;
  if (form.method !== "post") return;
  if (form.classList.contains("sent")) return event.preventDefault();
  form.classList.add("sent");
  setTimeout(() => form.classList.remove("sent"), ONCE_MS);
}

function isIdle() {
  return getSelection().isCollapsed && !find("#part details[open], #list details[open]");
}

function onlyIfNew(event) {
  // Enter in a field both changes it and submits it: Back must not lead to where one is.
  if (event.detail.history.path === location.pathname + location.search) event.preventDefault();
}

const liveOf = (event) => event.detail.ctx.sourceEvent?.type?.match(/^live-(.*)/)?.[1];

function onlyIfIdle(event) {
  // What somebody is marking or has opened must not vanish under their hand: it is made anew when they are done.
  const name = liveOf(event);
  if (!name || isIdle()) return;
  event.preventDefault();
  suppressed.add(name);
  showLive();
}

function onAnswer(event) {
  const { raw, status } = event.detail.ctx.response;
  if (liveOf(event)) {
    fails = status >= 400;
    showLive();
  } else if (status >= 400 && status !== 401) location.assign(raw.url); // the page itself says what is wrong
}

function onNoAnswer(event) {
  fails ||= Boolean(liveOf(event));
  showLive();
}

function makeUp() {
  if (!suppressed.size || !isIdle()) return;
  const names = [...suppressed];
  suppressed.clear();
  showLive();
  announce(names);
}

document.addEventListener("keydown", onKey);
document.addEventListener("submit", onSubmit);
document.addEventListener("click", (event) => event.target.closest(".narrow") ?? closeMenu());
find("#theme").addEventListener("click", switchTheme);
find("#shortcuts")?.addEventListener("click", KEYS["?"]);
document.addEventListener("htmx:config:request", withoutEmpty);
document.addEventListener("htmx:before:history:update", onlyIfNew);
document.addEventListener("htmx:before:request", onlyIfIdle);
document.addEventListener("htmx:after:request", onAnswer);
document.addEventListener("htmx:error", onNoAnswer);
document.addEventListener("toggle", makeUp, true);
document.addEventListener("selectionchange", makeUp);
for (const form of document.querySelectorAll("form[method=get]")) {
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
  });
}
if (find("#part[hx-get], #list[hx-get]")) {
  document.addEventListener("visibilitychange", onVisibility);
  addEventListener("pagehide", () => source?.close());
  setInterval(lookAgain, AGAIN_MS);
  find("#live").hidden = false;
  listen();
}
