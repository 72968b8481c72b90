// Runs before the first paint, so that the page never flashes in the other theme.
(() => {
  const chosen = localStorage.getItem("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const saved = localStorage.getItem("theme");
    document.documentElement.dataset.theme = saved ?? (dark.matches ? "dark" : "light");
  };
  document.documentElement.dataset.theme = chosen ?? (dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => {
    apply();
    document.dispatchEvent(new Event("theme"));
  });
})();
