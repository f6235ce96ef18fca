// Loaded by every page. What only some pages need is fetched when the page has it.
import { startTheme } from "./theme.js";
import { startControls } from "./controls.js";
import { localise, startTimes } from "./times.js";
import { startLive } from "./live.js";

const onDemand = {
  "[data-chart-url]": () => import("./chart.js").then((module) => module.startChart),
  "[data-log-url]": () => import("./log.js").then((module) => module.startLog),
  "[data-digit-pad]": () => import("./digit.js").then((module) => module.startDigitPad),
  "[data-code-tabs]": () => import("./tabs.js").then((module) => module.startCodeTabs),
};
const started = new WeakSet();

function enhance(root) {
  localise(root);
  for (const [selector, load] of Object.entries(onDemand)) {
    const found = [...root.querySelectorAll(selector)];
    if (root.matches?.(selector)) found.push(root);
    for (const element of found) {
      if (started.has(element)) continue;
      started.add(element);
      load().then((start) => start(element));
    }
  }
}

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRFToken"] = document.querySelector('meta[name="csrf-token"]').content;
});
document.addEventListener("htmx:afterSwap", (event) => enhance(event.detail.elt));
document.addEventListener("windlass:swapped", (event) => enhance(event.target));

startTheme();
startControls();
startTimes();
enhance(document.documentElement);
startLive();
