// The theme is a cookie, so that the server writes the right one into the next page and nothing flashes.
export function startTheme() {
  const menu = document.querySelector("[data-theme-menu]");
  if (!menu) return;
  menu.hidden = false;
  const choices = [...menu.querySelectorAll("[data-theme-choice]")];
  const mark = () => {
    for (const choice of choices) {
      choice.setAttribute("aria-checked", String(choice.dataset.themeChoice === document.documentElement.dataset.theme));
    }
  };
  menu.addEventListener("click", (event) => {
    const choice = event.target.closest("[data-theme-choice]");
    if (!choice) return;
    document.documentElement.dataset.theme = choice.dataset.themeChoice;
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `theme=${choice.dataset.themeChoice}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    mark();
    document.dispatchEvent(new CustomEvent("windlass:theme"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.dispatchEvent(new CustomEvent("windlass:theme"));
  });
  mark();
}
