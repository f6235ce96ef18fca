import { copyText } from "./controls.js";

const MEMORY = "windlass.code-tab";

function remembered() {
  try { return localStorage.getItem(MEMORY); } catch { return null; }
}

// Code in several languages: without script all are shown one below the other, with it one at a time.
export function startCodeTabs(root) {
  const list = root.querySelector('[role="tablist"]');
  const tabs = [...list.querySelectorAll('[role="tab"]')];
  const panels = [...root.querySelectorAll('[role="tabpanel"]')];
  const copy = root.querySelector("[data-copy-tab]");
  let current = 0;

  function show(index, remember) {
    current = index;
    tabs.forEach((tab, at) => {
      tab.setAttribute("aria-selected", String(at === index));
      tab.tabIndex = at === index ? 0 : -1;
      panels[at].hidden = at !== index;
    });
    if (remember) try { localStorage.setItem(MEMORY, tabs[index].textContent); } catch { /* private window: not remembered */ }
  }

  list.hidden = tabs.length < 2;
  if (copy) copy.hidden = false;
  for (const title of root.querySelectorAll(".code-title")) title.hidden = true;
  root.querySelector(".code-panels").dataset.tabs = "";
  list.addEventListener("click", (event) => {
    const index = tabs.indexOf(event.target.closest('[role="tab"]'));
    if (index >= 0) show(index, true);
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    show((current + step + tabs.length) % tabs.length, true);
    tabs[current].focus();
  });
  copy?.addEventListener("click", () => copyText(panels[current].querySelector("code").textContent, copy));
  show(Math.max(0, tabs.findIndex((tab) => tab.textContent === remembered())), false);
}
