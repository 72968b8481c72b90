// Choose runs by their boxes; their curves are drawn beside the table, and the address remembers both.
import { coloursOf, draw, human, smooth } from "./charts.js";

const MOST = 20;
// Where there was nothing, the first run brings the table.
if (document.getElementById("first-run")) document.addEventListener("live", () => location.reload());
const table = document.getElementById("table");
if (table) {
  const metric = document.getElementById("metric");
  const weight = document.getElementById("smooth");
  const form = document.getElementById("shape");
  // Which metric is drawn: what the address says, else what the table is sorted by, else the first one that it shows.
  const address = new URLSearchParams(location.search);
  const [sorted, chosen] = [address.get("sort") ?? "", form.querySelector("input[name=col][value^='metrics.']:checked")?.value ?? ""];
  for (const name of [address.get("metric"), sorted.startsWith("metrics.") ? sorted.slice(8) : null, chosen.slice(8)])
    if (name && [...metric.options].some((one) => one.value === name)) {
      metric.value = name;
      break;
    }
  if (address.get("smooth")) weight.value = address.get("smooth");
  const picked = () => new URLSearchParams(location.search).getAll("pick");

  const remember = (runs) => {
    const withPicks = (from) => {
      const address = new URL(from, location.href);
      address.searchParams.delete("pick");
      for (const run of runs) address.searchParams.append("pick", run);
      return address;
    };
    history.replaceState(null, "", withPicks(location.href));
    // What leads to the same table in another shape keeps what is drawn.
    for (const link of table.querySelectorAll("th[scope] a, .pin, .fold, .pager a")) link.href = withPicks(link.href).href;
    for (const kept of document.querySelectorAll("#views [name=query]")) kept.value = withPicks(`/runs?${kept.value}`).search.slice(1);
    for (const old of form.querySelectorAll("input[name=pick]")) old.remove();
    for (const run of runs) {
      const input = document.createElement("input");
      input.type = "hidden";
      input.name = "pick";
      input.value = run;
      form.append(input);
    }
  };
  // A chosen run has its curve's colour in the table too.
  const mark = (runs) => {
    const colours = coloursOf([...runs].sort());
    for (const key of table.querySelectorAll("[data-run]")) {
      if (colours.has(key.dataset.run)) key.dataset.c = colours.get(key.dataset.run);
      else delete key.dataset.c;
    }
  };
  const load = async () => {
    const runs = picked();
    mark(runs);
    table.classList.toggle("picked", runs.length > 0);
    document.getElementById("compare").href = `/runs/compare?ids=${runs.join(",")}`;
    if (!runs.length || !metric.value) return;
    const query = new URLSearchParams([...runs.map((run) => ["run", run]), ["key", metric.value]]);
    const answer = await fetch(`/data/runs?${query}`);
    if (!answer.ok) return;
    const data = await answer.json();
    const legend = document.getElementById("legend");
    legend.replaceChildren();
    const series = [];
    const colours = coloursOf(data.runs.map((run) => run.id).sort());
    for (const run of data.runs) {
      const points = (run.series[metric.value] ?? []).map(([step, value]) => [step, value]);
      const colour = colours.get(run.id);
      const w = Number(weight.value);
      if (w) series.push({ name: run.name, colour, points, quiet: true });
      series.push({ name: run.name, colour, points: w ? smooth(points, w) : points });
      const entry = document.createElement("span");
      const key = document.createElement("span");
      key.className = "key";
      key.dataset.c = colour;
      const last = points.at(-1)?.[1];
      entry.append(key, `${run.name}  ${human(last)}`);
      legend.append(entry);
    }
    draw(document.getElementById("curves"), { series, xName: "step", empty: `None of these runs has ${metric.value}.` });
  };
  document.addEventListener("change", (event) => {
    const run = event.target.dataset?.pick;
    if (run) {
      const runs = new Set(picked());
      if (event.target.checked && runs.size >= MOST) {
        event.target.checked = false;
        document.getElementById("announce").textContent = `At most ${MOST} runs are drawn at once: let go of another first.`;
        return;
      }
      event.target.checked ? runs.add(run) : runs.delete(run);
      remember(runs);
      load();
    } else if (event.target === metric || event.target === weight) {
      const now = new URL(location.href);
      now.searchParams.set("metric", metric.value);
      weight.value === "0" ? now.searchParams.delete("smooth") : now.searchParams.set("smooth", weight.value);
      history.replaceState(null, "", now);
      load();
    }
  });
  document.addEventListener("swapped", () => mark(picked()));
  document.getElementById("find-column").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const one of form.querySelectorAll(".pop label")) one.hidden = !one.querySelector("input").value.toLowerCase().includes(wanted);
  });
  // The usual columns are those that an address without columns shows.
  form.querySelector("[data-usual]")?.addEventListener("click", () => {
    for (const one of form.querySelectorAll("input[name=col]")) one.checked = false;
    form.requestSubmit();
  });
  // The address says no more than it must: columns only when somebody chose them.
  const columns = [...form.querySelectorAll("input[name=col]")];
  const before = columns.map((one) => one.checked).join();
  form.addEventListener("submit", () => {
    if (!address.has("col") && columns.map((one) => one.checked).join() === before) for (const one of columns) one.disabled = true;
    for (const one of form.querySelectorAll("input.query, select, input[name=dir]")) one.disabled ||= one.name !== "" && !one.value;
  });
  addEventListener("pageshow", () => {
    for (const one of form.elements) one.disabled = false;
  });
  // x draws the run that has the focus, p pins it.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !["x", "p"].includes(event.key)) return;
    if (event.target.closest?.("input:not([type=checkbox]), textarea, select")) return;
    const row = document.activeElement?.closest?.("#rows tr");
    row?.querySelector(event.key === "x" ? "[data-pick]" : "[data-pin]")?.click();
  });
  document.addEventListener("live", load);
  load();
}
