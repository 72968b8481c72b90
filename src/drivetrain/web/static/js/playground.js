// Chat as a stream from /v1/chat/completions, and rows to /invoke.
import { human } from "./charts.js";

const play = document.getElementById("play");
const model = play.dataset.model;
const $ = (id) => document.getElementById(id);

function element(tag, cls, text) {
  const el = document.createElement(tag);
  if (cls) el.className = cls;
  if (text !== undefined) el.textContent = text;
  return el;
}
const seconds = (ms) => (ms < 1000 ? `${human(ms, 3)} ms` : `${human(ms / 1000, 3)} s`);

function trace(id) {
  const link = element("a", "link", `trace ${id.slice(-8)}`);
  link.href = `/requests/${id}`;
  return link;
}

async function problem(answer) {
  try {
    const body = await answer.json();
    return body.error?.message ?? body.message ?? JSON.stringify(body);
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

if ($("composer")) {
  const turns = [];
  const log = $("turns");
  const message = $("message");
  let stopper = null;

  const show = (role, text) => {
    $("hint")?.remove();
    const turn = element("div", "turn");
    const said = element("div", "said", text);
    const after = element("div", "after");
    turn.append(element("div", "role", role), said, after);
    log.append(turn);
    turn.scrollIntoView({ block: "nearest" });
    return { turn, said, after };
  };
  const busy = (on) => {
    $("send").classList.toggle("hidden", on);
    $("stop").classList.toggle("hidden", !on);
  };

  async function send(text) {
    turns.push({ role: "user", content: text });
    show("You", text);
    const answer = show(model, "");
    answer.turn.classList.add("streaming");
    stopper = new AbortController();
    busy(true);
    const system = $("system")?.value.trim();
    const body = {
      model,
      messages: [...(system ? [{ role: "system", content: system }] : []), ...turns],
      stream: true,
      stream_options: { include_usage: true },
      temperature: Number($("temperature")?.value ?? 0.7),
      max_tokens: Number($("most")?.value ?? 256),
    };
    const began = performance.now();
    let first = 0;
    let whole = "";
    let usage = null;
    let id = "";
    try {
      const reply = await fetch("/v1/chat/completions", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
        signal: stopper.signal,
      });
      id = reply.headers.get("x-request-id") ?? "";
      if (!reply.ok) throw new Error(await problem(reply));
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        rest += value;
        const frames = rest.split("\n\n");
        rest = frames.pop();
        for (const frame of frames) {
          const data = frame.replace(/^data: ?/, "");
          if (data === "[DONE]" || !frame.startsWith("data:")) continue;
          const chunk = JSON.parse(data);
          if (chunk.error) throw new Error(chunk.error.message);
          usage = chunk.usage ?? usage;
          const piece = chunk.choices?.[0]?.delta?.content ?? "";
          if (piece) {
            first ||= performance.now();
            whole += piece;
            answer.said.textContent = whole;
            if (innerHeight + scrollY > document.body.scrollHeight - 160) scrollTo(0, document.body.scrollHeight);
          }
        }
      }
      turns.push({ role: "assistant", content: whole });
    } catch (error) {
      if (error.name === "AbortError") {
        turns.push({ role: "assistant", content: whole });
        answer.after.append(element("span", "", "stopped"));
      } else {
        answer.turn.classList.add("failed");
        answer.said.textContent = whole ? `${whole}\n\n${error.message}` : error.message;
        turns.pop();
      }
    }
    answer.turn.classList.remove("streaming");
    const took = performance.now() - began;
    if (first) answer.after.append(element("span", "", `first token ${seconds(first - began)}`), element("span", "", `total ${seconds(took)}`));
    if (usage) {
      answer.after.append(element("span", "", `${usage.completion_tokens} tokens`));
      const pace = (usage.completion_tokens - 1) / ((took - (first - began)) / 1000);
      if (usage.completion_tokens > 1 && Number.isFinite(pace)) answer.after.append(element("span", "", `${human(pace, 3)} tokens/s`));
    }
    if (id) answer.after.append(trace(id));
    busy(false);
    message.focus();
  }

  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = message.value.trim();
    if (!text || !$("stop").classList.contains("hidden")) return;
    message.value = "";
    message.style.height = "";
    send(text);
  });
  message.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $("composer").requestSubmit();
    }
  });
  message.addEventListener("input", () => {
    message.style.height = "auto";
    message.style.height = `${message.scrollHeight}px`;
  });
  $("stop").addEventListener("click", () => stopper?.abort());
  $("clear")?.addEventListener("click", () => location.reload());
  for (const range of document.querySelectorAll("aside input[type=range]"))
    range.addEventListener("input", () => (document.querySelector(`output[for=${range.id}]`).value = range.value));
  message.focus();
} else {
  const form = $("rows");
  const address = play.dataset.kind === "embeddings" ? "/v1/embeddings" : `/invoke/${encodeURIComponent(model)}/invocations`;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const result = $("result");
    let body;
    try {
      body = JSON.parse($("body").value);
    } catch (error) {
      const box = element("div", "note-box", `This is not JSON yet: ${error.message}`);
      box.dataset.tone = "bad";
      result.replaceChildren(box);
      return;
    }
    if (play.dataset.kind === "embeddings") body.model ??= model;
    const began = performance.now();
    const reply = await fetch(address, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    const took = performance.now() - began;
    const id = reply.headers.get("x-request-id");
    if (!reply.ok) {
      const box = element("div", "note-box", await problem(reply));
      box.dataset.tone = "bad";
      result.replaceChildren(box);
    } else {
      const out = element("pre", "io", JSON.stringify(await reply.json(), null, 2));
      out.tabIndex = 0;
      result.replaceChildren(out);
    }
    const after = element("p", "after small faint bar");
    after.append(element("span", "", seconds(took)));
    if (id) after.append(trace(id));
    result.append(after);
  });
  $("body").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}
