"""The addresses that the client prints ("View run at …/#/experiments/0/runs/…") lead to the dashboard.

What follows the '#' never reaches a server: a page has to look at it.
"""

from __future__ import annotations

PAGE = b"""<!doctype html>
<meta charset="utf-8">
<title>drivetrain</title>
<noscript>The runs are at <a href="/runs">/runs</a>, the models at <a href="/models">/models</a>.</noscript>
<script>
  const parts = location.hash.replace(/^#\\/?/, "").split("?")[0].split("/").filter(Boolean);
  let to = "/runs";
  if (parts[0] === "experiments" && parts[2] === "runs" && parts[3]) to = "/runs/" + parts[3];
  else if (parts[0] === "experiments" && parts[1]) to = "/experiments/" + parts[1];
  else if (parts[0] === "models") to = parts[1] ? "/models/" + parts[1] : "/models";
  location.replace(to);
</script>
"""
HEADERS = (("x-content-type-options", "nosniff"), ("referrer-policy", "same-origin"))
