// One look for all charts, made of the page's tokens. Needs the vendored ECharts as window.echarts.

const charts = new Map(); // element -> {chart, spec}

const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// A colour is one of the ten by its number, or a token by its name.
const paint = (colour) => token(typeof colour === "number" ? `--c${colour}` : `--${colour}`);

export function colourOf(name) {
  // The same CRC-32 as on the server: a name has one colour on every page.
  let crc = -1;
  for (const byte of new TextEncoder().encode(name)) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ((crc ^ -1) >>> 0) % 10;
}

export function coloursOf(names) {
  // One colour for each name; where two want the same, the later one takes the next that is free.
  const taken = new Set();
  const found = new Map();
  for (const name of names) {
    let colour = colourOf(name);
    while (taken.has(colour) && taken.size < 10) colour = (colour + 3) % 10;
    taken.add(colour);
    found.set(name, colour);
  }
  return found;
}

export function human(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  let text;
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) text = value.toExponential(Math.max(0, digits - 2)).replace("e+", "e");
  else text = String(Number(value.toPrecision(digits)));
  return text.replace("-", "−");
}

export function withUnit(value, unit, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (unit === "%") return `${human(value * 100, digits)} %`;
  if (unit === "ms") {
    if (value < 1000) return `${human(value, digits)} ms`;
    if (value < 60000) return `${human(value / 1000, digits)} s`;
    return `${human(value / 60000, digits)} min`;
  }
  return `${human(value, digits)}${unit ? ` ${unit}` : ""}`;
}

function clock(ms, span) {
  const at = new Date(ms);
  if (span > 2 * 86400e3) return at.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  const second = span < 600e3 ? "2-digit" : undefined;
  return at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second, hour12: false });
}

function tip(spec, at, rows) {
  const box = document.createElement("div");
  box.className = "tip";
  const head = document.createElement("div");
  head.className = "at";
  head.textContent = spec.time ? new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }) : `${spec.xName ?? "step"} ${human(at)}`;
  box.append(head);
  for (const row of rows) {
    const line = document.createElement("div");
    line.className = "row";
    const key = document.createElement("span");
    key.className = "key";
    key.dataset.c = row.colour;
    const value = document.createElement("b");
    value.textContent = (spec.says ?? ((v) => withUnit(v, spec.unit, 4)))(row.value);
    line.append(key, row.name, value);
    box.append(line);
  }
  return box;
}

function option(spec) {
  const ink3 = token("--ink-3");
  const line = token("--line");
  const font = { fontFamily: token("--sans"), fontSize: 11 };
  const xs = spec.series.flatMap((one) => one.points.map((point) => point[0]));
  const min = spec.min ?? (xs.length ? xs.reduce((a, b) => Math.min(a, b)) : 0);
  const max = spec.max ?? (xs.length ? xs.reduce((a, b) => Math.max(a, b)) : 1);
  return {
    animation: false,
    grid: { left: 0, right: 14, top: 12, bottom: 0, containLabel: true },
    textStyle: font,
    xAxis: {
      type: spec.time ? "time" : spec.logx ? "log" : "value",
      min,
      max,
      splitNumber: 4,
      minInterval: spec.time || spec.fine || spec.logx ? undefined : 1,
      axisLine: { lineStyle: { color: line } },
      axisTick: { show: false },
      splitLine: { show: false },
      axisLabel: { color: ink3, ...font, hideOverlap: true, formatter: spec.time ? (value) => clock(value, max - min) : (value) => human(value) },
      axisPointer: { show: true, snap: true, lineStyle: { color: token("--line-strong"), type: "solid" }, label: { show: false } },
    },
    yAxis: {
      type: spec.logy ? "log" : "value",
      scale: !spec.zero,
      min: spec.low ?? (spec.zero ? 0 : undefined),
      max: spec.high ?? (spec.unit === "%" ? (range) => (range.max > 0.8 ? 1 : null) : undefined),
      interval: spec.interval,
      splitNumber: 3,
      axisLine: { show: false },
      axisTick: { show: false },
      splitLine: { lineStyle: { color: line } },
      axisLabel: { color: ink3, ...font, formatter: spec.says ?? ((value) => withUnit(value, spec.unit)) },
    },
    tooltip: {
      trigger: "axis",
      confine: true,
      appendTo: "body",
      padding: 0,
      borderWidth: 0,
      backgroundColor: "transparent",
      extraCssText: "box-shadow:none",
      transitionDuration: 0,
      formatter: (found) => {
        const rows = found
          .filter((one) => spec.series[one.seriesIndex] && !spec.series[one.seriesIndex].quiet && one.value[1] !== null)
          .map((one) => ({ name: one.seriesName, value: one.value[1], colour: spec.series[one.seriesIndex].colour }));
        return tip(spec, found[0]?.value[0] ?? 0, rows);
      },
    },
    dataZoom: [{ type: "inside", zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false, preventDefaultMouseMove: false, filterMode: "none" }],
    series: [...spec.series.map((one) => ({
      type: "line",
      name: one.name,
      data: one.points,
      showSymbol: Boolean(one.dots) || one.points.filter((point) => point[1] !== null).length === 1 || lonely(one.points),
      symbolSize: 5,
      symbol: "circle",
      connectNulls: false,
      silent: Boolean(one.quiet),
      lineStyle: { width: one.quiet ? 1 : 1.75, type: one.dashed ? [4, 3] : "solid", opacity: one.dots ? 0 : one.quiet ? 0.3 : 1, color: paint(one.colour) },
      itemStyle: { color: paint(one.colour) },
      emphasis: { disabled: true },
      areaStyle: spec.area && !one.dashed ? { color: paint(one.colour), opacity: 0.08 } : undefined,
      sampling: one.step || one.dots ? undefined : "lttb",
      step: one.step,
      markLine:
        one.flags?.length || one.bounds?.length
          ? {
              symbol: "none",
              silent: true,
              animation: false,
              lineStyle: { color: token("--line-strong"), type: [2, 2], width: 1 },
              label: { show: !one.bare, color: ink3, ...font, formatter: "{b}", position: "insideEndTop", rotate: 0, distance: 4 },
              data: [
                ...spaced(one.flags ?? [], min, max),
                ...(one.bounds ?? []).map(bound),
              ],
            }
          : undefined,
      markArea: one.beyond
        ? { silent: true, animation: false, itemStyle: { color: token("--bad"), opacity: 0.07 }, data: [one.beyond.map((yAxis) => ({ yAxis }))] }
        : undefined,
    })), ...spec.series.flatMap(bandOf)],
  };
}

// An interval around a line: what is below it, invisible, and on top of that its width.
function bandOf(one) {
  if (!one.band) return [];
  const part = (data, opacity) => ({
    type: "line",
    stack: one.name,
    data,
    symbol: "none",
    silent: true,
    lineStyle: { opacity: 0 },
    areaStyle: { color: paint(one.colour), opacity },
    tooltip: { show: false },
  });
  return [part(one.band.map(([x, low]) => [x, low]), 0), part(one.band.map(([x, low, high]) => [x, high - low]), 0.14)];
}

// Flags whose words would stand on each other say them on other charts, or when one zooms in.
function spaced(flags, min, max) {
  let last = -Infinity;
  return [...flags]
    .sort((a, b) => a.at - b.at)
    .map(({ at, text }) => {
      const align = at < min + (max - min) / 2 ? "left" : "right";
      const label = at - last > (max - min) * 0.16 ? { align } : { show: false };
      if (label.align) last = at;
      return { xAxis: at, name: text, label };
    });
}

// A line across, which a value should not pass.
function bound({ at, text }) {
  const label = { show: true, color: token("--bad"), position: "insideEndBottom", align: "right", distance: 3, rotate: 0 };
  return { yAxis: at, name: text, lineStyle: { color: token("--bad"), type: "solid", width: 1.25 }, label };
}

// A point between two gaps would be invisible as a line.
function lonely(points) {
  return points.some((point, i) => point[1] !== null && (points[i - 1]?.[1] ?? null) === null && (points[i + 1]?.[1] ?? null) === null);
}

export function draw(el, spec) {
  const known = spec.series.some((one) => one.points.some((point) => point[1] !== null));
  let held = charts.get(el);
  if (!known) {
    held?.chart.dispose();
    charts.delete(el);
    const why = document.createElement("div");
    why.className = "why small";
    why.textContent = spec.empty ?? "Nothing to draw yet.";
    el.replaceChildren(why);
    return;
  }
  if (!held) {
    el.replaceChildren();
    const chart = window.echarts.init(el, null, { renderer: "canvas" });
    if (spec.group) chart.group = spec.group;
    held = { chart, spec };
    charts.set(el, held);
    const whole = () => chart.dispatchAction({ type: "dataZoom", start: 0, end: 100 });
    el.addEventListener("whole", whole);
    chart.on("datazoom", () => {
      const { start, end } = chart.getOption().dataZoom[0];
      charts.get(el)?.spec.zoomed?.(start, end);
    });
    new ResizeObserver(() => chart.resize()).observe(el);
    chart.getZr().on("dblclick", whole);
    if (spec.group) window.echarts.connect(spec.group);
  }
  held.spec = spec;
  const zoom = held.chart.getOption()?.dataZoom?.[0];
  const next = option(spec);
  if (zoom) Object.assign(next.dataZoom[0], { start: zoom.start, end: zoom.end });
  held.chart.setOption(next, { notMerge: true, lazyUpdate: true });
  const words = spec.series.filter((one) => !one.quiet).map((one) => `${one.name} ${(spec.says ?? ((v) => withUnit(v, spec.unit)))(one.points.findLast?.((p) => p[1] !== null)?.[1])}`);
  el.setAttribute("role", "img");
  el.setAttribute("aria-label", spec.label ?? `Chart. Latest: ${words.join(", ")}`);
}

export function smooth(points, weight) {
  // Exponential moving average without bias at its start.
  let last = 0;
  let mass = 0;
  return points.map(([x, y]) => {
    if (y === null || !Number.isFinite(y)) return [x, null];
    last = last * weight + y * (1 - weight);
    mass = mass * weight + (1 - weight);
    return [x, last / mass];
  });
}

document.addEventListener("theme", () => {
  for (const { chart, spec } of charts.values()) chart.setOption(option(spec), { notMerge: true });
});
