// The charts of a deployment, on one time axis, and kept up to date.
import { coloursOf, draw } from "./charts.js";

const box = document.getElementById("charts");

async function load() {
  const answer = await fetch(box.dataset.src);
  if (!answer.ok) return;
  const data = await answer.json();
  const colours = coloursOf(data.variants.map((variant) => variant.name));
  for (const el of box.querySelectorAll(".chart")) {
    const { measure, dashed, unit } = el.dataset;
    const series = [];
    for (const variant of data.variants) {
      const points = (name) => variant.at.map((at, i) => [at, variant[name][i]]);
      const colour = colours.get(variant.name);
      series.push({ name: variant.name, colour, points: points(measure), flags: series.length ? [] : data.flags, bare: measure !== "requests" });
      if (dashed) series.push({ name: `${variant.name}, p95`, colour, dashed: true, points: points(dashed) });
    }
    draw(el, {
      series,
      unit,
      time: true,
      zero: true,
      area: measure === "requests" || measure === "tokens",
      min: data.since_ms,
      max: data.until_ms,
      group: "deployment",
      empty: "No requests in this time.",
    });
  }
}

addEventListener("DOMContentLoaded", load);
if (document.readyState !== "loading") load();
document.addEventListener("live", load);
