// A line chart from the JSON at data-chart-url:
//   {"x": {"label": "step", "kind": "number" | "time"}, "xs": [0, 25, …],
//    "series": [{"name": "training", "values": [2.3, null, …], "colour": 1…6, "dash": false, "area": false, "sparse": false}],
//    "y": {"format": "number" | "percent" | "ms" | "rate", "min": 0, "max": null, "log": false},
//    "limit": {"value": 0.95, "words": "early stop at 95.0%"}, "marks": [{"x": 3200, "words": "resumed at 3,200"}],
//    "x_max": 9600, "empty": "No calls in this hour."}
// All but xs and series may be left out. A null value is a gap in the line, but in a sparse series (one measured at some
// xs only) the line goes on and the last value holds. Percent values are shares (0.95).
const CSS = new URL("../vendor/uplot/uPlot.min.css", import.meta.url);
const SCRIPT = new URL("../vendor/uplot/uPlot.iife.min.js", import.meta.url);
const REFRESH_MS = 1000;
const DASH = [6, 4];
let library;

function loadLibrary() {
  library ??= new Promise((resolve, reject) => {
    const sheet = document.createElement("link");
    sheet.rel = "stylesheet";
    sheet.href = CSS;
    const script = document.createElement("script");
    script.src = SCRIPT;
    script.onload = () => resolve(window.uPlot);
    script.onerror = reject;
    document.head.append(sheet, script);
  });
  return library;
}

function colour(token) {
  // A custom property is not resolved by itself; a colour set from it is.
  const probe = document.createElement("span");
  probe.hidden = true;
  probe.style.color = `var(--${token})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

const number = (value) => Math.abs(value) > 0 && Math.abs(value) < 1e-4
  ? value.toExponential(1) : value.toLocaleString("en", { maximumSignificantDigits: 4 });
const FORMATS = {
  number,
  percent: (value) => `${(value * 100).toLocaleString("en", { maximumFractionDigits: 1 })}%`,
  ms: (value) => `${number(value)} ms`,
  rate: (value) => `${number(value)}/s`,
};
const text = (value, format) => (value === null || value === undefined ? "not yet" : FORMATS[format](value).replace("-", "\u2212"));
const moment = (seconds, full) => new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(full ? { second: "2-digit" } : {}), hour12: false });

// A value without neighbours has no line: it is drawn as a point.
function alone(values, sparse) {
  const there = (at) => values[at] !== null && values[at] !== undefined;
  if (sparse) return values.filter((value) => value !== null).length < 2 ? values.map((_, at) => at).filter(there) : [];
  return values.map((_, at) => at).filter((at) => there(at) && !there(at - 1) && !there(at + 1));
}

class LineChart {
  constructor(root, uPlot) {
    this.root = root;
    this.uPlot = uPlot;
    this.place = root.querySelector("[data-chart-plot]");
    this.height = Number(root.dataset.chartHeight) || 200;
    this.plot = null;
    this.shape = "";
  }

  async load() {
    let response;
    try {
      response = await fetch(this.root.dataset.chartUrl, { headers: { Accept: "application/json" }, credentials: "same-origin" });
    } catch {
      return;  // away: what is drawn stays, and is asked for again with the stream
    }
    if (!response.ok) return this.say(`The figures could not be read (${response.status}). Reload the page to try again.`);
    this.show(await response.json());
  }

  say(words) {
    this.plot?.destroy();
    this.plot = null;
    const note = document.createElement("p");
    note.className = "chart-empty";
    note.textContent = words;
    this.place.replaceChildren(note);
  }

  show(data) {
    this.data = { x: { label: "", kind: "number" }, y: {}, marks: [], ...data };
    this.format = this.data.y.format ?? "number";
    if (!data.xs.length) return this.say(data.empty ?? "Nothing recorded yet.");
    // The axes depend on these; otherwise new points go into the drawing that is there, and zoom and hover stay.
    const shape = JSON.stringify([data.series.map((line) => line.name), data.limit, data.y, data.x_max, document.documentElement.dataset.theme]);
    const table = [data.xs, ...data.series.map((line) => line.values)];
    if (this.plot && shape === this.shape) {
      this.plot.setData(table, !this.zoomed());
      this.plot.redraw();
    } else {
      this.shape = shape;
      this.draw(table);
      this.legend();
    }
    this.table();
  }

  zoomed() { return this.plot.scales.x.min > this.range()[0] || this.plot.scales.x.max < this.drawnMax; }

  range() {
    const xs = this.data.xs, last = xs[xs.length - 1];
    this.drawnMax = Math.max(last, this.data.x_max ?? last);
    if (this.drawnMax === xs[0]) return [xs[0] - 1, xs[0] + 1];
    return [this.data.x.kind === "time" ? xs[0] : Math.min(xs[0], 0), this.drawnMax];
  }

  yRange(low, high) {
    const { min = 0, max, log } = this.data.y;
    if (log) return [Math.max(low, 1e-12) / 2, high * 2];
    const top = Math.max(high ?? 0, this.data.limit?.value ?? 0) || 1;
    return [Math.min(min ?? low, low ?? 0), max ?? top * 1.08];
  }

  draw(table) {
    const ink3 = colour("ink-3"), line = colour("line"), strong = colour("line-strong");
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: ink3, font, ticks: { show: false }, border: { show: false } };
    const time = this.data.x.kind === "time";
    this.plot?.destroy();
    this.place.replaceChildren();
    this.plot = new this.uPlot({
      width: this.place.clientWidth || 300,
      height: this.height,
      legend: { show: false },
      padding: [14, 12, 0, 0],
      cursor: { sync: { key: this.root.dataset.chartSync || "page" }, drag: { x: true, y: false }, points: { size: 7 }, y: false },
      scales: {
        x: { time: false, range: (plot, low, high) => (plot.select?.width ? [low, high] : this.fresh(low, high)) },
        y: { distr: this.data.y.log ? 3 : 1, range: (plot, low, high) => this.yRange(low, high) },
      },
      axes: [
        { ...axis, size: 26, gap: 6, grid: { show: false }, border: { show: true, stroke: strong, width: 1 }, space: 64,
          values: (plot, ticks) => ticks.map((tick) => (time ? moment(tick) : number(tick))) },
        { ...axis, size: 56, gap: 8, space: 42, grid: { stroke: line, width: 1 }, values: (plot, ticks) => ticks.map((tick) => (tick === null ? "" : text(tick, this.format))) },
      ],
      series: [{}, ...this.data.series.map((series, index) => ({
        label: series.name,
        stroke: colour(`s${series.colour ?? (index % 6) + 1}`),
        fill: series.area ? colour(`s${series.colour ?? (index % 6) + 1}`).replace("rgb(", "rgba(").replace(")", ", .14)") : undefined,
        width: 1.6,
        dash: series.dash ? DASH : undefined,
        points: { show: true, size: 6, filter: (plot, at) => alone(plot.data[at], series.sparse) },
        spanGaps: series.sparse ?? false,
      }))],
      hooks: { draw: [(plot) => this.marks(plot)], setCursor: [(plot) => this.readout(plot)] },
    }, table, this.place);
  }

  fresh(low, high) {
    const [from, to] = this.range();
    // uPlot asks with the data's own ends after a double click or new data, with the chosen ends after a zoom.
    const xs = this.data.xs;
    return low <= xs[0] && high >= xs[xs.length - 1] ? [from, to] : [low, high];
  }

  marks(plot) {
    const { ctx, bbox } = plot, ratio = devicePixelRatio;
    ctx.save();
    ctx.font = `${12 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
    ctx.lineWidth = ratio;
    ctx.textBaseline = "alphabetic";
    for (const mark of this.data.marks) {
      const x = Math.round(plot.valToPos(mark.x, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.strokeStyle = colour(mark.tone ? `${mark.tone}-fill` : "warn-fill");
      ctx.setLineDash([3 * ratio, 3 * ratio]);
      this.stroke(ctx, x, bbox.top, x, bbox.top + bbox.height);
      ctx.fillStyle = colour("ink-2");
      const left = x > bbox.left + bbox.width * 0.7;
      ctx.textAlign = left ? "right" : "left";
      ctx.fillText(mark.words, x + (left ? -6 : 6) * ratio, bbox.top + 8 * ratio);
    }
    if (this.data.limit) this.limit(plot, ctx, bbox, ratio);
    ctx.restore();
  }

  limit(plot, ctx, bbox, ratio) {
    const y = Math.round(plot.valToPos(this.data.limit.value, "y", true));
    if (y < bbox.top - 2 || y > bbox.top + bbox.height) return;
    ctx.strokeStyle = ctx.fillStyle = colour("ink");
    ctx.setLineDash([1.5 * ratio, 2.5 * ratio]);
    ctx.lineWidth = 1.6 * ratio;
    this.stroke(ctx, bbox.left, y, bbox.left + bbox.width, y);
    ctx.beginPath();
    ctx.moveTo(bbox.left - 7 * ratio, y - 4 * ratio);
    ctx.lineTo(bbox.left, y);
    ctx.lineTo(bbox.left - 7 * ratio, y + 4 * ratio);
    ctx.fill();
    ctx.fillStyle = colour("ink-2");
    ctx.textAlign = "right";
    ctx.fillText(this.data.limit.words, bbox.left + bbox.width, y - 5 * ratio);
  }

  stroke(ctx, x1, y1, x2, y2) {
    ctx.beginPath();
    ctx.moveTo(x1, y1);
    ctx.lineTo(x2, y2);
    ctx.stroke();
  }

  value(line, index) {
    let at = index;
    if (line.sparse) while (at > 0 && line.values[at] === null) at -= 1;
    return line.values[at];
  }

  at(x) { return this.data.x.kind === "time" ? moment(x, true) : `${this.data.x.label} ${number(x)}`.trim(); }

  readout(plot) {
    const place = this.root.querySelector("[data-chart-readout]"), index = plot.cursor.idx;
    if (index === null || index === undefined) return place.replaceChildren();
    const parts = [this.at(this.data.xs[index]), ...this.data.series.map((line) => `${line.name} ${text(this.value(line, index), this.format)}`)];
    place.replaceChildren(...parts.map((words) => Object.assign(document.createElement("span"), { textContent: words })));
  }

  legend() {
    const place = this.root.querySelector("[data-chart-legend]");
    if (!place) return;
    place.replaceChildren(...(this.data.series.length < 2 ? [] : this.data.series.map((line, index) => {
      const item = document.createElement("li");
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("width", "16");
      svg.setAttribute("height", "4");
      const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [name, value] of Object.entries({ x1: 0, x2: 16, y1: 2, y2: 2, class: `stroke-s${line.colour ?? index + 1}` })) stroke.setAttribute(name, value);
      if (line.dash) stroke.setAttribute("stroke-dasharray", "5 3");
      svg.append(stroke);
      item.append(svg, line.name);
      return item;
    })));
  }

  table() {
    const details = this.root.querySelector("[data-chart-table]");
    if (!details) return;
    details.hidden = false;
    details.ontoggle = () => this.table();
    if (!details.open) return;
    const table = document.createElement("table");
    table.className = "table table--small";
    const row = (cells, name) => {
      const line = document.createElement("tr");
      cells.forEach((words, at) => line.append(Object.assign(document.createElement(name), { textContent: words, className: at ? "figure" : "" })));
      return line;
    };
    const head = document.createElement("thead"), body = document.createElement("tbody");
    head.append(row([this.data.x.label || "time", ...this.data.series.map((line) => line.name)], "th"));
    this.data.xs.forEach((x, index) => body.append(row([this.data.x.kind === "time" ? moment(x, true) : number(x), ...this.data.series.map((line) => text(line.values[index], this.format))], "td")));
    table.append(head, body);
    details.querySelector("table")?.remove();
    details.append(table);
  }
}

export async function startChart(root) {
  const chart = new LineChart(root, await loadLibrary());
  await document.fonts?.ready;
  await chart.load();
  let waiting = null;
  const again = () => { waiting ??= setTimeout(() => { waiting = null; if (root.isConnected) chart.load(); }, REFRESH_MS); };
  const live = (root.dataset.chartLive ?? "").split(/\s+/);
  document.addEventListener("windlass:changed", (event) => {
    const { kind, id } = event.detail;
    if (live.includes(`${kind}:${id}`) || live.includes(`${kind}:*`)) again();
  });
  const every = Number(root.dataset.chartEvery) * 1000;
  if (every) setInterval(() => { if (!document.hidden) again(); }, every);
  document.addEventListener("windlass:resync", () => { if (live[0]) again(); });
  document.addEventListener("windlass:theme", () => { chart.shape = ""; if (chart.data) chart.show(chart.data); });
  new ResizeObserver(() => {
    const width = chart.place.clientWidth;
    if (chart.plot && width && width !== chart.plot.width) chart.plot.setSize({ width, height: chart.height });
  }).observe(chart.place);
}
