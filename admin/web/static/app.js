// The whole of what runs in a browser: keys, rows, live parts, double clicks. Every page works without it, but for the live parts.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// ---- the menu on a telephone
const button = $(".menu-button");
button?.addEventListener("click", () => {
  const open = $("#menu").classList.toggle("open");
  button.setAttribute("aria-expanded", String(open));
  if (open) $("#menu a")?.focus();
});

// ---- rows: a click anywhere opens what the row's first link opens
document.addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-row]");
  if (!row || event.target.closest("a, button, input, select, label") || String(getSelection())) return;
  $("a[href]", row)?.click();
});

// ---- a form is sent once, however often it is clicked
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method === "dialog") return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  if (form.dataset.confirm && !confirm(form.dataset.confirm)) { event.preventDefault(); return; }
  form.dataset.sent = "1";
  // After the browser has taken the values: a disabled button's own value would not travel.
  setTimeout(() => $$("button", form).forEach((each) => { each.disabled = true; }));
});
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  $$("form").forEach((form) => { delete form.dataset.sent; $$("button", form).forEach((each) => { each.disabled = false; }); });
});

// ---- keys
let prefix = 0;
let rowAt = -1;
function moveRow(by) {
  const rows = $$("tr[data-row]");
  if (!rows.length) return;
  rows[rowAt]?.classList.remove("here");
  rowAt = Math.max(0, Math.min(rows.length - 1, rowAt + by));
  rows[rowAt].classList.add("here");
  $("a[href]", rows[rowAt])?.focus({ preventScroll: true });
  rows[rowAt].scrollIntoView({ block: "nearest" });
}
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, [contenteditable]");
  // 229: an input method is composing Chinese; its keys are not ours.
  if (event.isComposing || event.keyCode === 229 || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (typing) typing.blur();
    if ($("#menu.open")) button.click();
    return;
  }
  if (typing || $("dialog[open]")) return;
  const key = event.key;
  if (prefix && Date.now() - prefix < 1500) {
    prefix = 0;
    const target = $(`#menu a[data-key="${CSS.escape(key)}"]`);
    if (target) { event.preventDefault(); target.click(); }
    return;
  }
  const go = (selector) => { const link = $(selector); if (link) { event.preventDefault(); link.click(); } };
  if (key === "g") prefix = Date.now();
  else if (key === "/") { const field = $("[data-search]"); if (field) { event.preventDefault(); field.focus(); field.select(); } }
  else if (key === "j") moveRow(1);
  else if (key === "k") moveRow(-1);
  else if (key === "[") go("a[rel=prev]");
  else if (key === "]") go("a[rel=next]");
  else if (key === "e") go("[data-export]");
  else if (key === "?") { event.preventDefault(); $("#keys")?.showModal(); }
});

// ---- live parts: <section data-live="/monitor/live"> gets {"#id": "<html>"} and puts each where it belongs
for (const section of $$("[data-live]")) {
  const late = Number(section.dataset.liveLate || 10) * 1000;
  let heard = Date.now();
  const source = new EventSource(section.dataset.live);
  source.onmessage = (event) => {
    heard = Date.now();
    $("[data-late]", section)?.setAttribute("hidden", "");
    for (const [selector, html] of Object.entries(JSON.parse(event.data))) {
      const place = $(selector);
      if (!place || place.innerHTML === html) continue;
      const focused = place.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      place.innerHTML = html; // rendered and escaped by our own server
      if (focused) $(`a[href="${CSS.escape(focused)}"]`, place)?.focus();
    }
  };
  setInterval(() => {
    const note = $("[data-late]", section);
    if (note && Date.now() - heard > late) { note.removeAttribute("hidden"); const n = $("[data-late-s]", note); if (n) n.textContent = Math.round((Date.now() - heard) / 1000); }
  }, 1000);
  addEventListener("pagehide", () => source.close());
}
