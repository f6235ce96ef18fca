// A log from the JSON at data-log-url:
//   {"lines": [{"id": "0-18234", "time": "2026-11-25T01:02:03.123456Z", "level": "info", "source": "rank 0", "series": 0, "text": "…"}],
//    "next": "<cursor>", "previous": "<cursor>" | null, "ended": false}
// ?after=<next> gives what came later, ?before=<previous> what stood earlier, ?source= one source only. Without either, the
// last 200 lines. While `data-log-follow` is set, it is asked again every second or so until `ended`.
const POLL_MS = 1200;
const KEPT = 5000;
const NEAR_END = 24;

function span(name, words) {
  return Object.assign(document.createElement("span"), { className: name, textContent: words });
}

function draw(line) {
  const item = document.createElement("li");
  if (line.id) item.id = `log-${line.id}`;
  const clock = line.time ? new Date(line.time).toISOString().slice(11, 23) : "";
  const time = Object.assign(document.createElement(line.id ? "a" : "span"), { className: "log-time", textContent: clock, title: line.time ?? "" });
  if (line.id) time.href = `#log-${line.id}`;
  const source = span("log-source", line.source ?? "");
  source.dataset.series = String((line.series ?? 0) % 6);
  item.append(time);
  if (line.level) item.append(span(`log-level log-level--${line.level}`, line.level));
  if (line.source) item.append(source);
  item.append(span("log-text", line.text));
  return item;
}

export function startLog(root) {
  const scroll = root.querySelector("[data-log-scroll]"), list = root.querySelector("[data-log-lines]");
  const fresh = root.querySelector("[data-log-new]"), empty = root.querySelector("[data-log-empty]");
  const earlier = root.querySelector("[data-log-earlier]"), source = root.querySelector("[data-log-source]");
  const follow = root.querySelector("[data-log-follow-switch] input");
  let next = null, previous = null, ended = !root.hasAttribute("data-log-follow"), unseen = 0, timer = null, round = 0;

  const atEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR_END;
  const toEnd = () => { scroll.scrollTop = scroll.scrollHeight; unseen = 0; fresh.hidden = true; };

  async function ask(parameters) {
    const address = new URL(root.dataset.logUrl, location);
    for (const [name, value] of Object.entries({ ...parameters, source: source?.value })) if (value) address.searchParams.set(name, value);
    const response = await fetch(address, { headers: { Accept: "application/json" }, credentials: "same-origin" });
    if (!response.ok) throw new Error(String(response.status));
    return response.json();
  }

  function append(lines) {
    if (!lines.length) return;
    list.append(...lines.map(draw));
    while (list.childElementCount > KEPT) list.firstElementChild.remove();
    if (!follow || follow.checked) return toEnd();
    unseen += lines.length;
    fresh.textContent = unseen === 1 ? "1 new line" : `${unseen.toLocaleString("en")} new lines`;
    fresh.hidden = false;
  }

  async function poll(mine) {
    clearTimeout(timer);
    try {
      const first = next === null;
      const page = document.hidden && !first ? null : await ask(first ? {} : { after: next });
      if (mine !== round) return;
      if (page) {
        next = page.next;
        ended = page.ended ?? ended;
        if (first) { previous = page.previous ?? null; earlier.hidden = !previous; }
        empty.hidden = list.childElementCount + page.lines.length > 0;
        append(page.lines);
      }
    } catch {
      // Away for a moment: the offline banner says so, and the next round goes on from the same place.
    }
    if (mine === round && !ended && root.isConnected) timer = setTimeout(() => poll(mine), POLL_MS);
  }

  function restart() {
    list.replaceChildren();
    next = previous = null;
    poll(++round);
  }

  earlier.addEventListener("click", async () => {
    const page = await ask({ before: previous });
    const height = scroll.scrollHeight;
    list.prepend(...page.lines.map(draw));
    scroll.scrollTop += scroll.scrollHeight - height;
    previous = page.previous ?? null;
    earlier.hidden = !previous;
  });
  scroll.addEventListener("scroll", () => {
    if (!follow) return;
    if (atEnd()) { follow.checked = true; unseen = 0; fresh.hidden = true; } else follow.checked = false;
  });
  fresh.addEventListener("click", () => { if (follow) follow.checked = true; toEnd(); scroll.focus(); });
  follow?.addEventListener("change", () => { if (follow.checked) toEnd(); });
  source?.addEventListener("change", restart);
  root.querySelector("[data-log-follow-switch]").hidden = ended;
  if (source) root.querySelector("[data-log-source-label]").hidden = false;
  restart();
}
