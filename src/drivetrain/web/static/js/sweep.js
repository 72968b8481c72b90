// How a sweep goes: its best so far, its runs as lines, and what matters.
import { draw, human } from "./charts.js";
import { parallel } from "./plots.js";

const box = document.getElementById("importance");

function bar(one) {
  const row = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = name.title = one.name;
  const length = document.createElement("td");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  rect.setAttribute("width", (one.importance ?? 0) * 100);
  rect.setAttribute("height", 10);
  svg.append(rect);
  length.append(svg);
  const share = document.createElement("td");
  share.className = "n";
  share.textContent = one.importance === null ? "–" : `${human(one.importance * 100, 2)} %`;
  const way = document.createElement("td");
  way.className = "n";
  way.textContent = one.correlation === null ? "" : human(one.correlation, 2);
  row.append(name, length, share, way);
  return row;
}

async function matter(sweep) {
  const answer = await fetch(`/data/sweeps/${sweep}/importance`);
  const found = answer.ok ? (await answer.json()).parameters : [];
  if (!found.length) {
    box.replaceChildren(Object.assign(document.createElement("p"), { className: "faint", textContent: "It takes a few ended runs with a value." }));
    return;
  }
  const table = document.createElement("table");
  table.className = "lengths";
  const head = table.createTHead().insertRow();
  for (const [text, kind] of [["Parameter", ""], ["", ""], ["Share", "n"], ["Rank correlation", "n"]]) head.append(Object.assign(document.createElement("th"), { textContent: text, className: kind, scope: "col" }));
  const body = table.createTBody();
  found.sort((a, b) => (b.importance ?? 0) - (a.importance ?? 0));
  body.append(...found.map(bar));
  box.replaceChildren(table);
}

async function load() {
  const answer = await fetch(`/data/sweeps/${box.dataset.sweep}`);
  if (!answer.ok) return;
  const data = await answer.json();
  const series = [
    { name: data.metric, colour: 0, points: data.dots, dots: true },
    { name: "best so far", colour: 0, points: data.best, step: "end" },
  ];
  draw(document.getElementById("best"), { series, xName: "run", empty: "No run has a value yet." });
  // The best are drawn last and strongest.
  const key = `metrics.${data.metric}`;
  const ranked = data.runs.filter((run) => run.values[key] !== undefined).sort((a, b) => (data.maximize ? 1 : -1) * (a.values[key] - b.values[key]));
  const levels = new Map(ranked.map((run, n) => [run.id, Math.round((4 * n) / Math.max(1, ranked.length - 1))]));
  const without = data.runs.filter((run) => !levels.has(run.id));
  parallel(document.getElementById("parallel"), [...without, ...ranked], data.keys, new Map(), levels);
}

// The first run brings the charts.
if (!box) document.addEventListener("live", () => location.reload());
if (box) {
  const all = () => {
    load();
    matter(box.dataset.sweep);
  };
  let timer = 0;
  document.addEventListener("live", () => {
    clearTimeout(timer);
    timer = setTimeout(all, 500);
  });
  addEventListener("resize", load);
  all();
}
