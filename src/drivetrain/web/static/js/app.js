// The behaviour that every page shares: theme, copying, times, search, live regions, keyboard.
import { startLive } from "./live.js";
import { startSearch } from "./search.js";

const root = document.documentElement;

export function toggleTheme() {
  const next = root.dataset.theme === "dark" ? "light" : "dark";
  root.dataset.theme = next;
  localStorage.setItem("theme", next);
  document.dispatchEvent(new Event("theme"));
}

async function copy(button) {
  const source = button.dataset.copy ?? button.closest(".copy")?.querySelector("pre")?.textContent ?? "";
  try {
    await navigator.clipboard.writeText(source.trim());
  } catch {
    const area = document.createElement("textarea"); // no clipboard API on plain http
    area.value = source.trim();
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const use = button.querySelector("use");
  const icon = use.getAttribute("href");
  use.setAttribute("href", icon.replace("#copy", "#check"));
  button.classList.add("done");
  announce("Copied");
  setTimeout(() => {
    use.setAttribute("href", icon);
    button.classList.remove("done");
  }, 1400);
}

export function announce(text) {
  document.getElementById("announce").textContent = text;
}

const STEPS = [
  [60, "s", 1],
  [3600, "min", 60],
  [86400, "h", 3600],
  [86400 * 14, "d", 86400],
];

function ago(ms) {
  const seconds = Math.max(0, (Date.now() - ms) / 1000);
  if (seconds < 5) return "just now";
  for (const [below, unit, size] of STEPS) {
    if (seconds < below) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return null; // as old as that, the server's date is better
}

export function tellTimes(within = document) {
  for (const el of within.querySelectorAll("time[data-ms]")) {
    const text = ago(Number(el.dataset.ms));
    if (text && el.textContent !== text) el.textContent = text;
    el.title ||= new Date(Number(el.dataset.ms)).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (!button) {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
    return;
  }
  const action = button.dataset.action;
  if (action === "theme") toggleTheme();
  else if (action === "copy") copy(button);
  else if (action === "search") document.dispatchEvent(new Event("search"));
  else if (action === "confirm" && !confirm(button.dataset.says)) event.preventDefault();
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});

// Tabs: one pressed, its panel shown.
document.addEventListener("click", (event) => {
  const tab = event.target.closest("[role=tab]");
  if (!tab) return;
  for (const other of tab.parentElement.querySelectorAll("[role=tab]")) {
    other.setAttribute("aria-selected", String(other === tab));
    other.tabIndex = other === tab ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).classList.toggle("hidden", other !== tab);
  }
});
document.addEventListener("keydown", (event) => {
  const tab = event.target.closest?.("[role=tab]");
  if (tab && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
    const all = [...tab.parentElement.querySelectorAll("[role=tab]")];
    const next = all[(all.indexOf(tab) + (event.key === "ArrowRight" ? 1 : all.length - 1)) % all.length];
    next.focus();
    next.click();
    return;
  }
  if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
  if (event.target.closest?.("input, textarea, select, [contenteditable]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const rows = [...document.querySelectorAll("tbody tr")].filter((row) => row.querySelector("a.main"));
  if ((event.key === "j" || event.key === "k") && rows.length) {
    const at = rows.findIndex((row) => row.contains(document.activeElement));
    const next = at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)));
    rows[next].querySelector("a.main").focus();
    event.preventDefault();
  } else if (event.key === "/") {
    document.dispatchEvent(new Event("search"));
    event.preventDefault();
  }
});

// On a phone the sections may be more than fit.
const here = document.querySelector(".nav [aria-current]");
if (here) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.clientWidth / 2 + here.clientWidth / 2;
tellTimes();
setInterval(tellTimes, 10000);
startSearch(toggleTheme);
startLive(tellTimes);
