// Times as the server writes them are UTC; here they take the reader's zone, and "14 s ago" goes on counting.
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function ago(moment) {
  const seconds = (Date.now() - moment) / 1000;
  const distance = Math.abs(seconds);
  if (distance < 1) return "now";
  const [size, name] = UNITS.find(([unit]) => distance >= unit);
  const text = `${Math.floor(distance / size).toLocaleString("en")} ${name}`;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}

function words(element) {
  const moment = new Date(element.dateTime);
  if (Number.isNaN(moment.getTime())) return element.textContent;
  const style = element.dataset.time;
  if (style === "ago") return ago(moment);
  const clock = { hour: "2-digit", minute: "2-digit", hour12: false };
  if (style === "clock") return moment.toLocaleTimeString("en-GB", { ...clock, second: "2-digit" });
  const year = moment.getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" };
  const day = moment.toLocaleDateString("en-GB", { day: "numeric", month: "long", ...year });
  return `${day}, ${moment.toLocaleTimeString("en-GB", clock)}`;
}

export function localise(root) {
  for (const element of root.querySelectorAll("time[data-time]")) {
    const text = words(element);
    if (element.textContent !== text) element.textContent = text;
  }
}

export function startTimes() {
  setInterval(() => {
    // What the page shows is from before the stream broke, so nothing may look as if it went on.
    if (!document.hidden && !document.body.hasAttribute("data-offline")) localise(document);
  }, 5000);
}
