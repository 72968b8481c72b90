// Runs beside each other: plots that need all of their parameters and metrics. The curves draw themselves.
import { coloursOf } from "./charts.js";
import "./curves.js";
import { parallel, scatter } from "./plots.js";

const ids = new URLSearchParams(location.search).getAll("ids").concat(new URLSearchParams(location.search).getAll("pick"));
const across = document.getElementById("sx");
if (across) {
  const up = document.getElementById("sy");
  const answer = await fetch(`/data/compare?${new URLSearchParams(ids.map((id) => ["ids", id]))}`);
  const { runs, keys } = await answer.json();
  const colours = coloursOf(runs.map((run) => run.id).sort());
  for (const select of [across, up]) for (const key of keys) select.append(new Option(key, key));
  const address = new URLSearchParams(location.search);
  const metric = keys.find((key) => key.startsWith("metrics."));
  across.value = address.get("sx") ?? keys[0] ?? "";
  up.value = address.get("sy") ?? metric ?? keys.at(-1) ?? "";
  const paint = () => {
    parallel(document.getElementById("parallel"), runs, keys.slice(0, 16), colours);
    scatter(document.getElementById("scatter"), runs, across.value, up.value, colours);
  };
  for (const select of [across, up])
    select.addEventListener("change", () => {
      const now = new URL(location.href);
      now.searchParams.set(select.id, select.value);
      history.replaceState(null, "", now);
      paint();
    });
  addEventListener("resize", paint);
  paint();
}
