// Go to anything: Ctrl-K (⌘K) opens, arrows choose, Enter goes.

export function startSearch(toggleTheme) {
  const dialog = document.getElementById("search");
  if (!dialog) return;
  const input = dialog.querySelector("input");
  const list = dialog.querySelector("ul");
  let timer = 0;
  let asked = 0;

  const options = () => [...list.querySelectorAll("a[role=option]")];
  const choose = (option) => {
    for (const other of options()) other.setAttribute("aria-selected", String(other === option));
    input.setAttribute("aria-activedescendant", option?.id ?? "");
    option?.scrollIntoView({ block: "nearest" });
  };
  const ask = async () => {
    const mine = ++asked;
    const answer = await fetch(`/search?q=${encodeURIComponent(input.value)}`);
    if (mine !== asked || !answer.ok) return;
    list.innerHTML = await answer.text();
    options().forEach((option, i) => (option.id = `found-${i}`));
    choose(options()[0]);
  };
  const open = () => {
    if (dialog.open) return;
    dialog.showModal();
    input.value = "";
    ask();
  };
  document.addEventListener("search", open);
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      dialog.open ? dialog.close() : open();
    }
  });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, 80);
  });
  const go = (option) => {
    if (!option) return;
    if (option.dataset.command === "theme") {
      toggleTheme();
      dialog.close();
    } else if (option.dataset.command?.startsWith("workspace:")) {
      const form = document.createElement("form");
      form.method = "post";
      form.action = "/workspace";
      const to = document.createElement("input");
      to.name = "to";
      to.value = option.dataset.command.slice("workspace:".length);
      form.append(to);
      document.body.append(form);
      form.submit();
    } else {
      location.href = option.href;
    }
  };
  dialog.addEventListener("keydown", (event) => {
    const all = options();
    const at = all.findIndex((option) => option.getAttribute("aria-selected") === "true");
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (all.length) choose(all[(at + (event.key === "ArrowDown" ? 1 : all.length - 1)) % all.length]);
    } else if (event.key === "Enter") {
      event.preventDefault();
      go(all[at]);
    }
  });
  list.addEventListener("click", (event) => {
    const option = event.target.closest("a[role=option]");
    if (option?.dataset.command) {
      event.preventDefault();
      go(option);
    }
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}
