// Live regions: the server says that something changed; the page fetches itself and swaps what differs,
// but never under the pointer, nor where somebody reads with the keyboard or has selected text.

export function startLive(after) {
  const topics = new Set([...document.querySelectorAll("[data-live]")].map((el) => el.dataset.live));
  if (!topics.size) return;
  const lamp = document.querySelector(".live");
  lamp?.classList.remove("hidden");
  let busy = false;
  let again = false;
  const waiting = new Map();
  // What the server sent, before scripts drew into it: only what the server says otherwise is swapped.
  const sent = new Map([...document.querySelectorAll("[data-live]")].map((el) => [el.id, el.innerHTML]));

  const held = (el) => {
    const selection = getSelection();
    return (
      el.matches(":hover") ||
      (el.contains(document.activeElement) && document.activeElement.matches(":focus-visible")) ||
      (selection && !selection.isCollapsed && el.contains(selection.anchorNode))
    );
  };
  const swap = (el, next) => {
    waiting.delete(el.id);
    const html = next.innerHTML;
    if (html === sent.get(el.id)) return;
    sent.set(el.id, html);
    el.replaceChildren(...next.childNodes);
    window.htmx?.process(el);
    after(el);
    el.dispatchEvent(new CustomEvent("swapped", { bubbles: true }));
  };
  // Cells keep their places when the rows are the same rows: new numbers may then be shown even under the pointer.
  const refill = (el, next) => {
    const old = [...el.querySelectorAll("[data-cell]")];
    const fresh = new Map([...next.querySelectorAll("[data-cell]")].map((cell) => [cell.dataset.cell, cell]));
    if (!old.length || old.length !== fresh.size || !old.every((cell) => fresh.has(cell.dataset.cell))) return false;
    for (const cell of old) {
      const other = fresh.get(cell.dataset.cell);
      if (cell.innerHTML !== other.innerHTML) cell.innerHTML = other.innerHTML;
    }
    sent.delete(el.id); // part of it is new by now
    after(el);
    return true;
  };
  const refresh = async () => {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Live": "1" } });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const el of document.querySelectorAll("[data-live]")) {
        const next = page.getElementById(el.id);
        if (!next) continue;
        if (!held(el)) swap(el, next);
        else if (!refill(el, next)) waiting.set(el.id, next);
      }
    } catch {
      // the server went away: the stream reconnects by itself, and then all is fetched anew
    } finally {
      busy = false;
      if (again) {
        again = false;
        setTimeout(refresh, 300);
      }
    }
  };
  const settle = () => {
    for (const [id, next] of [...waiting]) {
      const el = document.getElementById(id);
      if (el && !held(el)) swap(el, next);
    }
  };
  document.addEventListener("pointerover", () => waiting.size && setTimeout(settle, 150));
  document.addEventListener("focusout", () => waiting.size && setTimeout(settle, 150));

  let stream;
  let dropped = false;
  const open = () => {
    stream = new EventSource(`/data/live?${[...topics].map((topic) => `topic=${encodeURIComponent(topic)}`).join("&")}`);
    stream.addEventListener("open", () => {
      if (lamp) {
        lamp.dataset.state = "on";
        lamp.textContent = "Live";
      }
      if (dropped) refresh();
      dropped = false;
    });
    stream.addEventListener("error", () => {
      dropped = true;
      if (lamp) {
        lamp.dataset.state = "off";
        lamp.textContent = "Reconnecting";
      }
    });
    stream.addEventListener("change", (event) => {
      document.dispatchEvent(new CustomEvent("live", { detail: JSON.parse(event.data) }));
      refresh();
    });
  };
  open();
  // A hidden page costs nothing.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      stream.close();
    } else if (stream.readyState === EventSource.CLOSED) {
      dropped = true;
      open();
    }
  });
  addEventListener("pagehide", () => stream.close());
}
