// One server-sent stream a page says which rows changed; the regions made of those rows are fetched again and morphed.
//
// <body data-stream="URL"> sends {"kind", "id", "version"}; an optional event `alive` carries the seconds until the next.
// A region: <div id="…" data-live="run:run_01k… deployment:*">, with data-live-version where it shows one row, and
// data-live-url where not the page's own address but a fragment holds it. data-steady: a list that must not reorder
// under the pointer. data-keep: looks after itself and is never morphed.
import { localise } from "./times.js";

const BATCH_MS = 500;          // at most two fetches a second
const PATIENCE_MS = 5000;      // without a stream for this long, the page says so
const HIDDEN_MS = 20000;       // a tab nobody sees gives its connection back: browsers allow six a host
const AGAIN_MS = 3000;
const RETRY_MS = [500, 1000, 2000, 4000, 8000];

let url, stream, beat, beatTimer, retryTimer, hiddenTimer, bannerTimer;
let attempt = 0, lost = true, lastSeen = new Date();
const stale = new Set();
let flushTimer = null, lastFlush = 0, flushing = false;

const regions = () => [...document.querySelectorAll("[data-live]")];
const names = (element) => element.dataset.live.split(/\s+/);

function changed({ kind, id, version }) {
  for (const element of regions()) {
    const shown = Number(element.dataset.liveVersion ?? NaN);
    if (names(element).some((name) => name === `${kind}:${id}` || name === `${kind}:*`) && !(shown >= version)) stale.add(element);
  }
  document.dispatchEvent(new CustomEvent("windlass:changed", { detail: { kind, id, version } }));
  schedule();
}

function schedule() {
  if (!stale.size || flushTimer || flushing) return;
  flushTimer = setTimeout(flush, Math.max(0, lastFlush + BATCH_MS - performance.now()));
}

async function flush() {
  flushTimer = null;
  flushing = true;
  lastFlush = performance.now();
  const wanted = new Map();
  for (const element of stale) {
    if (!element.isConnected) continue;
    const from = element.dataset.liveUrl || location.pathname + location.search;
    wanted.set(from, [...(wanted.get(from) ?? []), element]);
  }
  stale.clear();
  try {
    await Promise.all([...wanted].map(([from, elements]) => refresh(from, elements)));
  } finally {
    flushing = false;
    schedule();
  }
}

async function refresh(from, elements) {
  let response;
  try {
    response = await fetch(from, { headers: { "X-Windlass-Live": "1" }, credentials: "same-origin", signal: AbortSignal.timeout(10000) });
  } catch {
    // If the server is away, the stream breaks as well, and everything is fetched when it is back.
    return void setTimeout(() => { if (!lost) { elements.forEach((element) => stale.add(element)); schedule(); } }, AGAIN_MS);
  }
  if (response.redirected && new URL(response.url).pathname !== new URL(from, location).pathname) return location.reload();  // signed out
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  localise(fresh);
  lastSeen = new Date();
  for (const element of elements) {
    const next = element.id && fresh.getElementById(element.id);
    if (next && element.isConnected) swap(element, next);
  }
  if (!elements.every((element) => element.dataset.liveUrl) && fresh.title) {
    document.title = fresh.title;
    const mark = document.querySelector('link[rel="icon"]'), other = fresh.querySelector('link[rel="icon"]');
    if (mark && other && mark.getAttribute("href") !== other.getAttribute("href")) mark.setAttribute("href", other.getAttribute("href"));
  }
}

function swap(element, next) {
  if (element.hasAttribute("data-steady") && element.matches(":hover") && reorders(element, next)) {
    element.addEventListener("pointerleave", () => { stale.add(element); schedule(); }, { once: true });
    return;
  }
  Idiomorph.morph(element, next, { morphStyle: "outerHTML", ignoreActiveValue: true, restoreFocus: true, callbacks: { beforeNodeMorphed, beforeAttributeUpdated } });
  const now = document.getElementById(element.id) ?? element;
  htmx.process(now);
  now.dispatchEvent(new CustomEvent("windlass:swapped", { bubbles: true }));
}

function reorders(element, next) {
  const order = (root) => [...root.querySelectorAll("[id]")].filter((row) => row.matches("tr, li")).map((row) => row.id).join();
  return order(element) !== order(next);
}

function beforeNodeMorphed(old, next) {
  if (!(old instanceof Element) || !(next instanceof Element)) return true;
  if (old.hasAttribute("data-keep") && next.hasAttribute("data-keep")) return false;
  if (old.matches("input, textarea, select") && edited(old)) return false;
  if (old.matches("form[data-sent]") && old.action === next.action) return false;
  return true;
}

function edited(control) {
  if (control.type === "checkbox" || control.type === "radio") return control.checked !== control.defaultChecked;
  if (control.tagName === "SELECT") {
    const options = [...control.options];
    // Without a preset choice the browser shows the first, which nobody chose.
    const preset = options.some((option) => option.defaultSelected);
    return preset ? options.some((option) => option.selected !== option.defaultSelected) : control.selectedIndex > 0;
  }
  return control.type !== "hidden" && control.value !== control.defaultValue;
}

function beforeAttributeUpdated(name, element) {
  // What the reader opened stays open.
  return !(name === "open" && element.matches("details, dialog"));
}

function connect() {
  clearTimeout(retryTimer);
  stream?.close();
  stream = new EventSource(url);
  stream.onopen = opened;
  stream.onmessage = (event) => { heard(); changed(JSON.parse(event.data)); };
  stream.addEventListener("alive", (event) => { beat = Number(event.data) || beat; heard(); });
  stream.onerror = broken;
}

function opened() {
  heard();
  attempt = 0;
  clearTimeout(bannerTimer);
  bannerTimer = null;
  show("live");
  // Whatever changed between the page being made and the stream being open was told to nobody here.
  if (lost) {
    regions().forEach((element) => stale.add(element));
    document.dispatchEvent(new CustomEvent("windlass:resync"));
    schedule();
  }
  lost = false;
}

function heard() {
  lastSeen = new Date();
  clearTimeout(beatTimer);
  if (beat) beatTimer = setTimeout(broken, Math.min(beat * 2500, beat * 1000 + PATIENCE_MS));
}

function broken() {
  stream?.close();
  clearTimeout(beatTimer);
  lost = true;
  attempt += 1;
  bannerTimer ??= setTimeout(() => show("paused"), PATIENCE_MS);
  if (document.body.hasAttribute("data-offline")) show("paused");
  retryTimer = setTimeout(connect, RETRY_MS[Math.min(attempt, RETRY_MS.length) - 1]);
}

function show(state) {
  const mark = document.getElementById("live-mark");
  if (mark) {
    mark.hidden = false;
    mark.dataset.state = state;
    mark.querySelector("[data-live-word]").textContent = state === "live" ? "Live" : "Paused";
  }
  document.body.toggleAttribute("data-offline", state === "paused");
  const banner = document.getElementById("offline");
  if (!banner) return;
  banner.hidden = state !== "paused";
  const clock = lastSeen.toLocaleTimeString("en-GB", { hour12: false });
  banner.querySelector("[data-offline-words]").textContent = `Reconnecting, attempt ${attempt}. What you see is from ${clock}.`;
}

function leave() {
  clearTimeout(retryTimer);
  clearTimeout(beatTimer);
  stream?.close();
  stream = null;
  lost = true;
}

export function startLive() {
  url = document.body.dataset.stream;
  if (!url) return;
  document.querySelector("[data-offline-retry]")?.addEventListener("click", connect);
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) hiddenTimer = setTimeout(leave, HIDDEN_MS);
    else if (!stream) connect();
  });
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
  connect();
}
