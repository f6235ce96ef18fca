// Menus, dialogs, copy buttons, toasts and forms that are sent once. One listener each on the document, so that
// what is swapped in later works too.

export async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // No clipboard without https: fall back to a selection the reader can see.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const word = button.querySelector("[data-copy-word]");
  if (!word) {
    const name = button.getAttribute("aria-label");
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => button.setAttribute("aria-label", name), 2000);
    return;
  }
  if (word.textContent === "Copied") return;
  const before = word.textContent;
  word.textContent = "Copied";
  setTimeout(() => { word.textContent = before; }, 2000);
}

function openDialog(id) {
  const dialog = document.getElementById(id);
  if (!dialog) return false;
  dialog.removeAttribute("open");
  dialog.showModal();
  return true;
}

function checkConfirm(field) {
  const button = field.form.querySelector('[type="submit"]');
  button.disabled = field.value.trim() !== field.dataset.confirm;
}

function onClick(event) {
  const target = event.target instanceof Element ? event.target : null;
  if (!target) return;
  const copy = target.closest("[data-copy]");
  if (copy) return copyText(copy.dataset.copy, copy);
  const close = target.closest("[data-toast-close]");
  if (close) return close.closest(".toast").remove();
  const opener = target.closest("[data-dialog]");
  if (opener && openDialog(opener.dataset.dialog)) return event.preventDefault();
  const keep = target.closest("[data-dialog-close]");
  if (keep?.closest("dialog")) {
    event.preventDefault();
    return keep.closest("dialog").close();
  }
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
}

function onKey(event) {
  const button = event.target instanceof Element && event.target.closest('a[role="button"]');
  if (button && event.key === " ") {
    event.preventDefault();
    return button.click();
  }
  const menu = document.querySelector("details[data-menu][open]");
  if (!menu) return;
  if (event.key === "Escape") {
    menu.open = false;
    menu.querySelector("summary").focus();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && menu.contains(event.target)) {
    event.preventDefault();
    const items = [...menu.querySelectorAll(".menu-item:not([hidden])")];
    const step = event.key === "ArrowDown" ? 1 : -1;
    const at = items.indexOf(document.activeElement);
    items[(at + step + items.length) % items.length]?.focus();
  }
}

function onSubmit(event) {
  const form = event.target;
  if (!form.matches("[data-once]")) return;
  if (form.hasAttribute("data-sent")) return event.preventDefault();
  form.setAttribute("data-sent", "");
  const button = event.submitter;
  const word = button?.querySelector("[data-busy-word]");
  if (word && button.dataset.busy) word.textContent = button.dataset.busy;
  button?.setAttribute("aria-disabled", "true");
}

function startToasts() {
  const kept = new WeakSet();
  const schedule = (toast) => {
    const leave = () => {
      if (toast.matches(":hover") || toast.contains(document.activeElement)) return setTimeout(leave, 2000);
      toast.setAttribute("data-leaving", "");
      setTimeout(() => toast.remove(), 200);
    };
    setTimeout(leave, 6000);
  };
  const look = () => {
    const list = [...document.querySelectorAll("[data-toast]")];
    for (const toast of list.slice(0, -3)) toast.remove();
    for (const toast of list.slice(-3)) {
      if (!kept.has(toast)) { kept.add(toast); schedule(toast); }
    }
  };
  look();
  const host = document.getElementById("toasts");
  if (host) new MutationObserver(look).observe(host, { childList: true });
}

export function startControls() {
  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
  document.addEventListener("submit", onSubmit);
  document.addEventListener("input", (event) => {
    if (event.target.matches?.("[data-confirm]")) checkConfirm(event.target);
  });
  // A page kept by the Back button must let its forms be sent again.
  addEventListener("pageshow", (event) => {
    if (event.persisted) for (const form of document.querySelectorAll("[data-sent]")) form.removeAttribute("data-sent");
  });
  document.querySelectorAll("[data-confirm]").forEach(checkConfirm);
  for (const dialog of document.querySelectorAll("dialog[open]")) openDialog(dialog.id);
  document.querySelector('.tabs [aria-current]')?.scrollIntoView({ block: "nearest", inline: "center" });
  (document.querySelector('[aria-invalid="true"]') ?? document.querySelector("[data-form-errors]"))?.focus();
  startToasts();
}
