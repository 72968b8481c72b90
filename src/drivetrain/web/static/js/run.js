// The curves of one run, drawn as they grow.
import { colourOf, draw, human, smooth } from "./charts.js";

const box = document.getElementById("charts");
if (box) {
  const weight = document.getElementById("smooth");
  let data = null;
  const paint = () => {
    const run = data?.runs[0];
    if (!run) return;
    const w = Number(weight.value);
    for (const el of box.querySelectorAll(".chart")) {
      const key = el.dataset.key;
      const points = (run.series[key] ?? []).map(([step, value]) => [step, value]);
      const colour = colourOf(run.id);
      const series = [];
      if (w) series.push({ name: key, colour, points, quiet: true });
      series.push({ name: key, colour, points: w ? smooth(points, w) : points });
      draw(el, { series, xName: "step", group: "run", empty: "No finite value yet." });
      box.querySelector(`[data-last="${CSS.escape(key)}"]`).textContent = human(points.at(-1)?.[1], 5);
    }
  };
  const load = async () => {
    const answer = await fetch(`/data/runs?run=${box.dataset.run}`);
    if (!answer.ok) return;
    data = await answer.json();
    if (data.runs[0] && Object.keys(data.runs[0].series).some((key) => !box.querySelector(`[data-key="${CSS.escape(key)}"]`))) return; // a reload shows new metrics
    paint();
  };
  weight.addEventListener("change", paint);
  document.addEventListener("live", load);
  load();
}
