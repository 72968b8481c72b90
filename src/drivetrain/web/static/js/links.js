// Leads a link that MLflow's client prints, `/mlflow/#/experiments/1/runs/<id>`, to the page that shows it here.
(() => {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map((part) => {
    try {
      return encodeURIComponent(decodeURIComponent(part));
    } catch {
      return encodeURIComponent(part);
    }
  });
  const evaluation = new URLSearchParams(query).get("selectedRunUuid");
  const [kind, name, part, number] = parts;
  let to = "/runs";
  if (kind === "experiments" && name) {
    to = part === "runs" && number ? `/runs/${number}` : evaluation ? `/runs/${encodeURIComponent(evaluation)}` : `/runs?experiment=${name}`;
  } else if (kind === "models") {
    to = name ? `/models/${name}` : "/models";
    if (part === "versions" && /^\d+$/.test(number)) to += `?version=${number}`;
  }
  location.replace(to);
})();
