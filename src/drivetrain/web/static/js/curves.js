// Curves of runs that can be looked at by step or time, on logarithmic axes, smoothed, and nearer: what one zooms to is fetched anew.
import { coloursOf, draw, human, smooth } from "./charts.js";

const FEW = 6; // metrics in one question

export function curves(box) {
  const ids = box.dataset.runs.split(",");
  const controls = [...document.querySelectorAll(`[data-controls="${box.id}"] [data-set]`)];
  const colours = coloursOf([...ids].sort());
  const plots = new Map([...box.querySelectorAll(".chart")].map((el) => [el.dataset.key, el]));
  const near = new Map(); // key -> {x: [from, to] of the whole axis, data} while somebody looks at a part
  const address = new URLSearchParams(location.search);
  for (const one of controls) {
    const said = address.get(one.dataset.set);
    if (said !== null) one.type === "checkbox" ? (one.checked = said === "1") : (one.value = said);
  }
  const set = () => Object.fromEntries(controls.map((one) => [one.dataset.set, one.type === "checkbox" ? one.checked : one.value]));
  const whole = { runs: new Map(), keys: new Set() }; // what is known of the whole axis, by metric

  const across = (run, [step, value, at], x) => [x === "time" ? at : x === "relative" ? (at - run.start_ms) / 1000 : step, value, step];
  // `range` is of steps, or with `times` of milliseconds.
  const fetched = async (keys, range, times) => {
    const query = new URLSearchParams([...ids.map((id) => ["run", id]), ...keys.map((key) => ["key", key])]);
    if (range) {
      query.set(times ? "from_ms" : "from", Math.floor(range[0]));
      query.set(times ? "to_ms" : "to", Math.ceil(range[1]));
    }
    const answer = await fetch(`/data/runs?${query}`);
    return answer.ok ? answer.json() : null;
  };
  const known = (key) => (whole.keys.has(key) ? { runs: [...whole.runs.values()] } : null);
  const paint = (key) => {
    const { x, smooth: weight, logx, logy } = set();
    const close = near.get(key);
    const data = close?.data ?? known(key);
    if (!data) return;
    const w = Number(weight);
    const series = [];
    for (const run of data.runs) {
      let points = (run.series[key] ?? []).map((point) => across(run, point, x));
      if (logx && x !== "time") points = points.filter((point) => point[0] > 0);
      if (logy) points = points.map(([a, b, c]) => [a, b > 0 ? b : null, c]);
      if (!points.length) continue;
      const colour = colours.get(run.id);
      if (w) series.push({ name: run.name, colour, points, quiet: true });
      series.push({ name: ids.length > 1 ? run.name : key, colour, points: w ? smooth(points, w) : points });
    }
    const spec = {
      series,
      group: box.id,
      time: x === "time",
      xName: x === "relative" ? "after, s" : "step",
      fine: x === "relative",
      logx: logx && x !== "time",
      logy,
      empty: logy ? "No value above zero: a logarithmic axis shows none." : "No finite value yet.",
      zoomed: (start, end) => look(key, start, end),
    };
    if (close) [spec.min, spec.max] = close.axis;
    draw(plots.get(key), spec);
    const label = box.querySelector(`[data-last="${CSS.escape(key)}"]`);
    if (label && ids.length === 1) label.textContent = human([...whole.runs.values()][0]?.series[key]?.at(-1)?.[1], 5);
  };
  const paintAll = () => plots.forEach((_, key) => paint(key));

  // Charts of a page zoom together: one question asks for all of them.
  const wanted = new Map();
  let timer = 0;
  const look = (key, start, end) => {
    if (start <= 0.01 && end >= 99.99) {
      wanted.delete(key);
      if (near.delete(key)) paint(key);
      return;
    }
    wanted.set(key, [start, end]);
    clearTimeout(timer);
    timer = setTimeout(nearer, 200);
  };
  const nearer = async () => {
    const { x, logx } = set();
    const asked = new Map(wanted);
    wanted.clear();
    let low = Infinity;
    let high = -Infinity;
    const axes = new Map();
    // Time since the start means other times for each run: of several, the steps that they were at.
    const runs = [...whole.runs.values()];
    const times = x === "time" || (x === "relative" && runs.length === 1);
    const origin = x === "relative" ? runs[0]?.start_ms : 0;
    for (const [key, [start, end]] of asked) {
      const points = runs.flatMap((run) => (run.series[key] ?? []).map((point) => across(run, point, x))).filter((p) => !logx || x === "time" || p[0] > 0);
      if (!points.length) continue;
      const xs = points.map((point) => point[0]);
      const axis = near.get(key)?.axis ?? [xs.reduce((a, b) => Math.min(a, b)), xs.reduce((a, b) => Math.max(a, b))];
      axes.set(key, axis);
      const place = (share) => (logx && x !== "time" ? axis[0] * (axis[1] / axis[0]) ** (share / 100) : axis[0] + ((axis[1] - axis[0]) * share) / 100);
      const [from, to] = [place(start), place(end)];
      if (times) [low, high] = [Math.min(low, origin + from * (origin ? 1000 : 1)), Math.max(high, origin + to * (origin ? 1000 : 1))];
      else if (x === "step") [low, high] = [Math.min(low, from), Math.max(high, to)];
      else
        for (const [i, point] of points.entries())
          if (point[0] >= from && point[0] <= to) [low, high] = [Math.min(low, points[i - 1]?.[2] ?? point[2], point[2]), Math.max(high, points[i + 1]?.[2] ?? point[2], point[2])];
    }
    if (low > high) return;
    const data = await fetched([...axes.keys()], [low, high], times);
    if (!data) return;
    for (const [key, axis] of axes) {
      near.set(key, { axis, data });
      paint(key);
    }
    box.dataset.range = `${Math.floor(low)}-${Math.ceil(high)}`;
  };

  // What somebody sees is fetched first and kept up to date; the rest follows a few at a time, and is renewed when it comes into view.
  const seen = new Set();
  const stale = new Set(plots.keys());
  let busy = false;
  const load = async () => {
    if (busy) return;
    busy = true;
    try {
      for (;;) {
        const first = [...stale].filter((key) => seen.has(key));
        const keys = (first.length || (document.hidden && whole.keys.size) ? first : [...stale].filter((key) => !whole.keys.has(key))).slice(0, FEW);
        if (!keys.length) return;
        for (const key of keys) stale.delete(key);
        const data = await fetched(keys);
        if (!data) return;
        for (const run of data.runs) {
          const old = whole.runs.get(run.id);
          whole.runs.set(run.id, { ...run, series: { ...old?.series, ...run.series } });
        }
        for (const key of keys) {
          whole.keys.add(key);
          plots.get(key).removeAttribute("aria-busy");
          // What somebody looks at from near stays as it is.
          if (!near.has(key)) paint(key);
        }
      }
    } finally {
      busy = false;
    }
  };
  const watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) isIntersecting ? seen.add(target.dataset.key) : seen.delete(target.dataset.key);
      load();
    },
    { rootMargin: "200px" },
  );
  for (const el of plots.values()) watch.observe(el);
  for (const one of controls)
    one.addEventListener("change", () => {
      const now = new URL(location.href);
      for (const [key, value] of Object.entries(set())) value && value !== "0" && value !== "step" ? now.searchParams.set(key, value === true ? "1" : value) : now.searchParams.delete(key);
      history.replaceState(null, "", now);
      near.clear();
      plots.forEach((el) => el.dispatchEvent(new Event("whole")));
      paintAll();
    });
  document.addEventListener("live", () => {
    for (const key of plots.keys()) stale.add(key);
    load();
  });
}

for (const box of document.querySelectorAll(".charts[data-runs]")) {
  const folded = box.closest("details:not([open])");
  if (folded) folded.addEventListener("toggle", () => curves(box), { once: true });
  else curves(box);
}
