// How a search went: its best so far, its runs as lines, and what matters.
import { coloursOf, draw, human } from "./charts.js";
import { parallel } from "./plots.js";

const box = document.getElementById("importance");
if (box) {
  const sweep = box.dataset.sweep;
  const data = await (await fetch(`/data/sweeps/${sweep}`)).json();
  draw(document.getElementById("best"), { series: [{ name: data.metric, colour: 0, points: data.best, step: "end" }], xName: "run", empty: "No run has a value yet." });
  parallel(document.getElementById("parallel"), data.runs, data.keys, coloursOf(data.runs.map((run) => run.id)));
  const answer = await fetch(`/data/sweeps/${sweep}/importance`);
  const found = answer.ok ? (await answer.json()).parameters : [];
  const lines = found.map((one) => {
    const line = document.createElement("div");
    const said = one.importance === null ? "" : `${human(one.importance * 100, 3)} %`;
    line.textContent = [one.name, said, one.correlation === null ? "" : `correlation ${human(one.correlation, 2)}`].filter(Boolean).join("   ");
    return line;
  });
  if (lines.length) box.replaceChildren(...lines);
  else box.textContent = "It takes a few ended runs with a value.";
}
