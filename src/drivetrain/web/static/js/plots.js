// Plots of runs as points or lines: parallel coordinates and scatter, as SVG in the page's colours.
import { human } from "./charts.js";

const SVG = "http://www.w3.org/2000/svg";
const make = (name, attributes, ...children) => {
  const el = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) el.setAttribute(key, value);
  el.append(...children);
  return el;
};
const short = (text, most = 16) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const label = (key) => key.replace(/^(params|metrics)\./, "");

// Numbers have a scale; words stand in their order, each at its own height.
function scale(values) {
  const there = values.filter((value) => value !== undefined && value !== null);
  if (there.every((value) => typeof value === "number")) {
    const low = Math.min(...there);
    const high = Math.max(...there);
    // What spans magnitudes, as learning rates do, stands by its magnitude.
    if (low > 0 && high / low >= 50) {
      const at = (value) => Math.log(value / low) / Math.log(high / low);
      return { at, ticks: [low, Math.sqrt(low * high), high].map((value) => [at(value), human(value, 2)]) };
    }
    const at = (value) => (high === low ? 0.5 : (value - low) / (high - low));
    return { at, ticks: [...new Set([low, (low + high) / 2, high])].map((value) => [at(value), human(value, 3)]) };
  }
  const words = [...new Set(there.map(String))].sort();
  const at = (value) => (words.length === 1 ? 0.5 : words.indexOf(String(value)) / (words.length - 1));
  return { at, ticks: words.slice(0, 12).map((word) => [at(word), short(word, 12)]) };
}

function empty(el, why) {
  const box = document.createElement("div");
  box.className = "quiet-empty";
  box.textContent = why;
  el.replaceChildren(box);
}

// A run has its own colour, or with `levels` (0 to 4) one strength of the same.
export function parallel(el, runs, keys, colours, levels) {
  if (keys.length < 2) return empty(el, "Fewer than two parameters or metrics differ between these runs.");
  const width = Math.max(el.clientWidth, keys.length * 96);
  const [height, top, bottom, side] = [280, 34, 16, 48];
  const x = (i) => side + ((width - 2 * side) * i) / (keys.length - 1);
  const y = (share) => height - bottom - share * (height - top - bottom);
  const scales = keys.map((key) => scale(runs.map((run) => run.values[key])));
  const svg = make("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Parallel coordinates of ${runs.length} runs over ${keys.map(label).join(", ")}` });
  for (const run of runs) {
    let path = "";
    let on = false;
    keys.forEach((key, i) => {
      const value = run.values[key];
      if (value === undefined) on = false;
      else {
        path += `${on ? "L" : "M"}${x(i)},${y(scales[i].at(value))}`;
        on = true;
      }
    });
    const look = levels ? { "data-level": levels.get(run.id) ?? 0 } : { "data-c": colours.get(run.id) };
    const line = make("path", { d: path, class: "run-line", ...look });
    const words = make("title", {}, `${run.name}: ${keys.map((key) => `${label(key)} ${typeof run.values[key] === "number" ? human(run.values[key]) : (run.values[key] ?? "–")}`).join(", ")}`);
    // A thin line is hard to meet: a wide one that nobody sees lies over it. The tables lead to each run by keyboard.
    const link = make("a", { href: `/runs/${run.id}`, tabindex: -1, class: "run-link" }, words, line, make("path", { d: path, class: "hit" }));
    svg.append(link);
  }
  keys.forEach((key, i) => {
    svg.append(make("line", { x1: x(i), x2: x(i), y1: top, y2: height - bottom, class: "axis" }));
    const name = make("text", { x: x(i), y: 16, "text-anchor": "middle", class: "axis-name" }, short(label(key)));
    name.append(make("title", {}, key));
    svg.append(name);
    const end = i === keys.length - 1;
    for (const [share, text] of scales[i].ticks) svg.append(make("text", { x: x(i) + (end ? -5 : 5), y: y(share) + 4, "text-anchor": end ? "end" : "start", class: "tick" }, text));
  });
  el.replaceChildren(svg);
}

export function scatter(el, runs, across, up, colours) {
  const there = runs.filter((run) => run.values[across] !== undefined && run.values[up] !== undefined);
  if (!there.length) return empty(el, "No run has both of these.");
  const width = Math.max(300, el.clientWidth);
  const [height, top, bottom, left, right] = [280, 12, 40, 64, 24];
  const sx = scale(there.map((run) => run.values[across]));
  const sy = scale(there.map((run) => run.values[up]));
  const x = (share) => left + share * (width - left - right);
  const y = (share) => height - bottom - share * (height - top - bottom);
  const svg = make("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${label(up)} by ${label(across)} of ${there.length} runs` });
  for (const [share, text] of sy.ticks) svg.append(make("line", { x1: left, x2: width - right, y1: y(share), y2: y(share), class: "axis" }), make("text", { x: left - 8, y: y(share) + 4, "text-anchor": "end", class: "tick" }, text));
  for (const [share, text] of sx.ticks) svg.append(make("text", { x: x(share), y: height - bottom + 18, "text-anchor": "middle", class: "tick" }, text));
  svg.append(make("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle", class: "axis-name" }, label(across)));
  for (const run of there) {
    const dot = make("circle", { cx: x(sx.at(run.values[across])), cy: y(sy.at(run.values[up])), r: 5, class: "run-dot", "data-c": colours.get(run.id) });
    dot.append(make("title", {}, `${run.name}: ${label(across)} ${run.values[across]}, ${label(up)} ${run.values[up]}`));
    svg.append(make("a", { href: `/runs/${run.id}`, tabindex: -1 }, dot));
  }
  el.replaceChildren(svg);
}
