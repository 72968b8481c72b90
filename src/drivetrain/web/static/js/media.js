// Media of a run: pictures of earlier steps, and plots that wandb's client described.
import { colourOf, draw } from "./charts.js";

function plots() {
  for (const el of document.querySelectorAll("[data-plot]:not([data-drawn])")) {
    el.dataset.drawn = "";
    const plot = JSON.parse(el.dataset.plot);
    const series = plot.series.map((one, n) => ({ name: one.name, colour: plot.series.length > 10 ? colourOf(one.name) : n, points: one.points, dots: plot.dots }));
    draw(el, { series, xName: plot.x, fine: true, label: `${plot.y} by ${plot.x}`, empty: "The plot's table has no numbers." });
  }
}

document.addEventListener("input", (event) => {
  const frames = event.target.dataset?.frames;
  if (!frames) return;
  const [step, url, caption] = JSON.parse(frames)[Number(event.target.value)];
  const figure = event.target.closest("figure");
  const image = figure.querySelector("img");
  image.src = url;
  image.closest("a").href = url;
  figure.querySelector("[data-step]").textContent = `step ${step}`;
  event.target.setAttribute("aria-valuetext", `step ${step}`);
  const words = figure.querySelector("[data-caption]");
  if (words) words.textContent = caption;
});
// A picture of few pixels shows each of them.
const few = (image) => image.classList.toggle("few", image.naturalWidth > 0 && image.naturalWidth * 3 <= image.clientWidth);
document.addEventListener("load", ({ target }) => target instanceof HTMLImageElement && few(target), true);
for (const image of document.querySelectorAll(".media img")) few(image);
document.addEventListener("swapped", plots);
plots();

// The console follows its end, until somebody scrolls back to read.
let follows = true;
let place = 0;
const settle = () => {
  const box = document.querySelector(".console");
  if (box) box.scrollTop = follows ? box.scrollHeight : place;
};
document.addEventListener(
  "scroll",
  ({ target }) => {
    if (!target.classList?.contains("console")) return;
    place = target.scrollTop;
    follows = target.scrollTop + target.clientHeight > target.scrollHeight - 24;
  },
  true,
);
document.addEventListener("swapped", settle);
settle();
