/* The kiosk's page: it shows the state that it is told and says what was pressed. It decides nothing about money, and it
   keeps nothing that a reload could lose: only what is being typed, and the language. What is typed on the PIN pad goes to
   the pad, key by key, and nowhere else. */

const SVG = "http://www.w3.org/2000/svg";
const POLL_MS = 25_000; // the server answers sooner: then it has gone
const AGAIN_MS = 700;
const TOUCH_EVERY_MS = 3_000;
const WARN_S = 15; // of the time that is left: "are you still there?"
const ACCOUNT_DIGITS = 20;
const AMOUNT_DIGITS = 5; // whole yuan
const PRESETS = [50, 100, 200, 500];
const ICONS = {
  bill: "M6 3h12v18l-3-2-3 2-3-2-3 2zM9 8h6M9 12h6",
  save: "M4 8a8 3 0 0 1 16 0a8 3 0 0 1-16 0v8a8 3 0 0 0 16 0V8M4 12a8 3 0 0 0 16 0",
  chart: "M5 3h14v18H5zM9 17v-4M12 17V8M15 17v-6",
  card: "M3 6h18v12H3zM3 10h18M7 15h4",
  bell: "M6 16V11a6 6 0 0 1 12 0v5l2 2H4zM10 21h4",
  warn: "M12 3l10 18H2zM12 10v5M12 18v.2",
  wait: "M7 3h10M7 21h10M8 3c0 5 8 5 8 9s-8 4-8 9M16 3c0 5-8 5-8 9s8 4 8 9",
  check: "M4 13l5 5L20 7",
  cross: "M6 6l12 12M18 6L6 18",
  back: "M15 5l-7 7 7 7",
  erase: "M9 6h12v12H9l-6-6zM12 9.5l5 5M17 9.5l-5 5",
  cut: "M9 7V3M15 7V3M7 7h10v4a5 5 0 0 1-10 0zM12 16v5",
};
const FLOWS = { pay: ["account", "bills", "card", "pin", "done"], prepay: ["account", "amount", "card", "pin", "done"], e_bill: ["account", "bills"], balance: ["card", "pin", "done"] };
const NEEDS_NO_PAPER = ["e_bill", "balance"];

let texts = null;
let state = null;
let known = "";
let alive = true;
let language = "zh";
let shownKey = ""; // what the screen shows: when it changes, the screen is made anew
let refresh = () => {}; // what changes on a screen while it stays
let sentStep = ""; // an act of this step is on its way or done: a second press is none
let left = null; // { atMs }: when the screen goes back to the start
let touchedMs = 0;
let typed = "";
let chosen = new Set();

// ------------------------------------------------------------------------------------------------ small things
const byId = (id) => document.getElementById(id);
const t = (name, values = {}) => texts[language][name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
const yuan = (fen) => {
  const [whole, rest] = [Math.trunc(Math.abs(fen) / 100), String(Math.abs(fen) % 100).padStart(2, "0")];
  return `${fen < 0 ? "-" : ""}¥${whole.toLocaleString("en-US")}.${rest}`;
};
const grouped = (digits) => digits.replace(/(.{4})(?=.)/g, "$1 ");

function period(yyyymm) {
  const [year, month] = [Number(yyyymm.slice(0, 4)), Number(yyyymm.slice(4))];
  if (language === "zh") return `${year}年${month}月`;
  return new Date(year, month - 1, 1).toLocaleDateString("en-GB", { month: "long", year: "numeric" });
}

/** A day, of YYYYMMDD and whatever follows. */
function day(digits) {
  const [year, month, date] = [digits.slice(0, 4), digits.slice(4, 6), digits.slice(6, 8)].map(Number);
  if (language === "zh") return `${year}-${digits.slice(4, 6)}-${digits.slice(6, 8)}`;
  return new Date(year, month - 1, date).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

/** The page's own text for what is told; where it has none, the text that came with it, which is Chinese. */
function say(told) {
  const own = texts[language].codes;
  return own[`${told.code}:${told.response_code}`] ?? (language === "zh" && told.text ? told.text : (own[told.code] ?? told.text ?? told.code));
}

/** An element. Attributes by name; "on…" are listeners; text never becomes markup. */
function h(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (typeof value === "boolean") element.toggleAttribute(key, value);
    else element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const icon = (name) => svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));

function mark() {
  return svg("svg", { class: "mark", viewBox: "0 0 48 48", "aria-hidden": "true" },
    svg("rect", { class: "field", width: 48, height: 48, rx: 13 }),
    svg("path", { class: "grid", d: "M9 15h30M9 33h30M15 9v30M33 9v30" }),
    svg("path", { class: "spark", d: "M27 8L13 27h9l-2 13 15-20h-9z" }));
}

const button = (kind, label, onclick, more = {}) => h(`button.${kind}`, { type: "button", onclick, ...more }, label);

// ------------------------------------------------------------------------------------------------ to and from the server
async function post(path, what) {
  try {
    const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what) });
    return answer.ok;
  } catch {
    return false; // the poll notices, too
  }
}

/** What was pressed on this screen. The server takes one act for each step; so do we, and a double click is one. */
async function act(what) {
  if (!state || sentStep === state.step) return;
  sentStep = state.step;
  byId("main").setAttribute("aria-busy", "true");
  if (!(await post("/act", { step: state.step, act: what })) && sentStep === state?.step) {
    sentStep = "";
    byId("main").removeAttribute("aria-busy");
  }
}

function touch() {
  if (state?.seconds_left === null || !state || sentStep === state.step || Date.now() - touchedMs < TOUCH_EVERY_MS) return;
  touchedMs = Date.now();
  post("/act", { step: state.step, act: { do: "touch" } });
}

const bench = (what) => post("/bench", what);
const leave = () => act({ do: "leave" });

async function listen() {
  for (;;) {
    try {
      const answer = await fetch(`/state?known=${encodeURIComponent(known)}`, { signal: AbortSignal.timeout(POLL_MS) });
      if (!answer.ok) throw new Error(`state: ${answer.status}`);
      state = await answer.json();
      known = state.version;
      alive = true;
      left = state.seconds_left === null ? null : { atMs: performance.now() + 1000 * state.seconds_left };
    } catch {
      alive = false;
      known = "";
      left = null;
    }
    paint();
    if (!alive) await new Promise((done) => setTimeout(done, AGAIN_MS));
  }
}

// ------------------------------------------------------------------------------------------------ screens
/** What is on the screen: the server's view, or that the server has gone. */
const view = () => (alive && state ? state.view : { screen: "gone" });

function paint() {
  if (!texts) return;
  const now = view();
  const key = `${alive ? state?.step : "gone"}|${language}|${now.screen}`;
  document.documentElement.lang = t("lang");
  document.title = t("brand");
  if (key !== shownKey) {
    if (now.screen === "home" && now.timed_out && language !== "zh" && !shownKey.includes("|home")) language = "zh";
    shownKey = `${alive ? state?.step : "gone"}|${language}|${now.screen}`;
    const main = byId("main");
    const held = main.contains(document.activeElement) || document.activeElement === document.body;
    sentStep = "";
    main.removeAttribute("aria-busy");
    const made = SCREENS[now.screen](now);
    refresh = made.refresh ?? (() => {});
    main.replaceChildren(...made.nodes);
    main.dataset.screen = now.screen;
    main.scrollTop = 0;
    if (held) main.focus({ preventScroll: true });
    paintTop();
  }
  refresh(now);
  paintRibbon();
  paintBench();
  tick();
}

function paintTop() {
  byId("top").replaceChildren(
    mark(),
    h("div.brand", {}, t("brand"), h("small.number", {}, `${t("terminal")} ${state?.terminal ?? ""}`)),
    h("div.clock.number", {}, h("b", { id: "time" }), h("span", { id: "date" })),
    button("language", t("other_language"), () => { language = language === "zh" ? "en" : "zh"; paint(); },
      { id: "language", lang: language === "zh" ? "en" : "zh-CN" }));
}

function paintRibbon() {
  const told = alive ? state?.service.told : null;
  const said = told && view().screen !== "starting" ? say(told) : "";
  const ribbon = byId("ribbon");
  if (ribbon.dataset.said === said) return;
  ribbon.dataset.said = said;
  ribbon.replaceChildren(...(said ? [icon("cut"), said] : []));
}

/** Once a second, and whenever something changes: clock, notices that begin and end, the time that is left. */
function tick() {
  const now = new Date();
  const place = language === "zh" ? "zh-CN" : "en-GB";
  if (byId("time")) {
    byId("time").textContent = now.toLocaleTimeString(place, { hour: "2-digit", minute: "2-digit", hour12: false });
    byId("date").textContent = now.toLocaleDateString(place, { month: "long", day: "numeric", weekday: "short" });
  }
  const seconds = left && view().screen !== "home" ? Math.max(0, Math.ceil((left.atMs - performance.now()) / 1000)) : null;
  const idle = byId("idle");
  if (seconds === null || seconds > Math.min(WARN_S, state.idle_s / 2) || sentStep === state?.step) {
    if (idle.firstChild) idle.replaceChildren();
  } else {
    if (!idle.firstChild) {
      idle.append(h("div", {}, h("b", {}, t("still_there")), h("span.number", { "aria-live": "off" })),
        button("stay", t("stay"), () => { touchedMs = 0; touch(); }));
    }
    idle.querySelector("span").textContent = t("still_left", { n: seconds });
  }
}

function steps(business, now) {
  const names = FLOWS[business] ?? FLOWS.pay;
  const at = names.indexOf(now);
  return h("ul.steps", {}, names.map((name, index) =>
    h(index < at ? "li.past" : index === at ? "li.now" : "li", index === at ? { "aria-current": "step" } : {}, t(`step_${name}`))));
}

const toldBox = (told, soft = false) => told && h(soft ? "div.told.soft-told" : "div.told", { role: "alert" }, icon("warn"), h("span", {}, say(told)));
const homeButton = (label = t("home"), name = "leave") => button("quiet", [icon("back"), label], leave, { "data-act": name });

function noticeList() {
  const today = new Date(Date.now() - 60_000 * new Date().getTimezoneOffset()).toISOString().slice(0, 10);
  // The server leaves out those that have ended; it may have gone, and a notice must not outlive its day.
  const current = (state?.notices ?? []).filter((each) => !each.ends_on || today <= each.ends_on);
  if (!current.length) return null;
  return h("section.notices", { "aria-label": t("notices") }, h("h2", {}, icon("bell"), t("notices")),
    current.map((each) => h(each.kind === "outage" ? "div.notice.outage" : "div.notice", {},
      h("b", {}, (language === "en" && each.title_en) || each.title),
      h("p", {}, (language === "en" && each.text_en) || each.text))));
}

function digitKeys(input) {
  const keys = ["1", "2", "3", "4", "5", "6", "7", "8", "9"].map((digit) => button("key", digit, () => input(digit)));
  return h("div.keys", {}, keys, button("word", t("clear"), () => input("clear")), button("key", "0", () => input("0")),
    button("word", [icon("erase")], () => input("delete"), { "aria-label": t("delete") }));
}

/** What a number is typed into: keys on the screen, and a keyboard where there is one (see keydown). */
function typing(digits, changed) {
  const input = (key) => {
    if (key === "clear") typed = "";
    else if (key === "delete") typed = typed.slice(0, -1);
    else if (typed.length < digits) typed += key;
    changed();
  };
  return input;
}

let onKey = null; // digits, "delete", "enter" of a keyboard, for the screen that is shown

const SCREENS = {
  starting: () => waiting("starting"),
  gone: () => {
    const made = waiting("gone");
    const list = noticeList();
    return { nodes: list ? [...made.nodes, list] : made.nodes };
  },

  out_of_order: (now) => ({ nodes: [centre("bad", "cross", t("out_of_order"), h("p.lead", {}, say(now.told))), noticeList()].filter(Boolean) }),

  home: () => {
    onKey = null;
    const hello = h("h1.hello", {});
    const earlier = h("div", {});
    const tiles = ["pay", "prepay", "e_bill", "balance"].map((name, index) => button(
      index ? "tile" : "tile.first",
      [index ? null : network(), icon({ pay: "bill", prepay: "save", e_bill: "chart", balance: "card" }[name]), h("div", {}, h("b", {}, t(name)), h("span", {}, t(`${name}_hint`)))].filter(Boolean),
      () => act({ do: "begin", business: name }), { "data-act": name }));
    const notices = h("div", {});
    let shown = "";
    return {
      nodes: [hello, earlier, h("div.tiles", {}, tiles), notices],
      refresh: (now) => {
        const told = state.service.told;
        hello.textContent = told ? t("hello_closed") : t("hello");
        tiles.forEach((tile) => {
          const closed = told && !(NEEDS_NO_PAPER.includes(tile.dataset.act) && told.code.startsWith("printer"));
          tile.classList.toggle("closed", Boolean(closed));
          tile.disabled = Boolean(closed);
        });
        const changing = JSON.stringify([now.earlier, state.notices, new Date().getDate()]);
        if (changing === shown) return;
        shown = changing;
        earlier.replaceChildren(...(now.earlier ? [button("earlier-link", [icon("wait"), h("span", {}, t("earlier_one", { n: now.earlier }))],
          () => act({ do: "show_earlier" }), { "data-act": "earlier" })] : []));
        earlier.hidden = !now.earlier;
        notices.replaceChildren(...[noticeList()].filter(Boolean));
      },
    };
  },

  account: (now) => {
    typed = now.account;
    const output = h("output", { "aria-label": t("account_field"), "aria-live": "polite", id: "typed" });
    const go = button("go", t("inquire"), () => typed && act({ do: "account", account: typed }), { "data-act": "inquire" });
    const changed = () => { output.textContent = grouped(typed); go.disabled = !typed; };
    const input = typing(ACCOUNT_DIGITS, changed);
    onKey = (key) => (key === "enter" ? go.click() : input(key));
    changed();
    return {
      nodes: [steps(now.business, "account"), h("div", {}, h("h1", {}, t("account_title")), h("p.soft", {}, t("account_hint"))), toldBox(now.told),
        h("div.typing", {}, h("div.typed", {}, h("span.soft", {}, t("account_field")), output), digitKeys(input)),
        h("div.actions", {}, homeButton(), go)].filter(Boolean),
    };
  },

  amount: (now) => {
    typed = "";
    const output = h("output", { "aria-label": t("amount_field"), "aria-live": "polite", id: "typed" });
    const go = button("go", t("next"), () => Number(typed) && act({ do: "amount", amount: 100 * Number(typed) }), { "data-act": "next" });
    const presets = PRESETS.map((each) => button("preset", `¥${each}`, () => { typed = String(each); changed(); }, { "data-amount": each }));
    const changed = () => {
      typed = typed.replace(/^0+/, "");
      output.textContent = typed && `¥${Number(typed).toLocaleString("en-US")}`;
      go.disabled = !typed;
      presets.forEach((each) => each.setAttribute("aria-pressed", String(each.dataset.amount === typed)));
    };
    const input = typing(AMOUNT_DIGITS, changed);
    onKey = (key) => (key === "enter" ? go.click() : input(key));
    changed();
    return {
      nodes: [steps("prepay", "amount"), h("div", {}, h("h1", {}, t("amount_title")), h("p.soft", {}, `${t("account_field")} ${grouped(now.account)} · ${t("amount_hint")}`)),
        toldBox(now.told),
        h("div.typing", {}, h("div.rows", {}, h("div.typed", {}, h("span.soft", {}, t("amount_field")), output), h("div.presets", {}, presets)), digitKeys(input)),
        h("div.actions", {}, homeButton(), go)].filter(Boolean),
    };
  },

  bills: (now) => {
    onKey = null;
    chosen = new Set(now.months.map((each) => each.receivable));
    const closed = now.told && now.told.code !== "arrears_first";
    const sum = h("b.number", { id: "total" });
    const count = h("span", {});
    const go = button("go", "", () => act({ do: "choose", receivables: now.months.map((each) => each.receivable).filter((each) => chosen.has(each)) }), { "data-act": "pay" });
    const rows = now.months.map((each) => {
      const row = button("month", [
        h("span.box", {}, icon("check")),
        h("span", {}, h("b", {}, period(each.period)),
          h("span.parts.number", {}, h("span", {}, `${t("energy")} ${each.energy_kwh} kWh`), h("span", {}, `${t("principal")} ${yuan(each.principal)}`),
            each.penalty ? h("span.penalty", {}, `${t("penalty")} ${yuan(each.penalty)}`) : null)),
        h("span.sum.number", {}, yuan(each.amount))], () => {
        if (!chosen.delete(each.receivable)) chosen.add(each.receivable);
        changed();
      }, { role: "checkbox", disabled: !now.partial_allowed || Boolean(closed) });
      return { each, row };
    });
    const changed = () => {
      const amount = now.months.filter((each) => chosen.has(each.receivable)).reduce((all, each) => all + each.amount, 0);
      rows.forEach(({ each, row }) => row.setAttribute("aria-checked", String(chosen.has(each.receivable))));
      sum.textContent = yuan(amount);
      count.textContent = t("chosen", { n: chosen.size });
      go.textContent = `${t("pay_now")} ${yuan(amount)}`;
      go.disabled = !chosen.size || Boolean(closed);
    };
    changed();
    return {
      nodes: [steps("pay", "bills"), h("h1", {}, t(now.partial_allowed ? "bills_title" : "bills_title_whole")),
        h("div.who", {}, h("b", {}, now.name), h("span.number", {}, `${t("account_field")} ${grouped(now.account)}`), h("span.soft", {}, now.address),
          now.advance_balance ? h("span.soft.number", {}, `${t("advance")} ${yuan(now.advance_balance)}`) : null),
        toldBox(now.told, !closed), now.partial_allowed ? null : toldBox({ code: "partial_refused", text: t("whole"), response_code: "" }, true),
        h("div.months", { role: "group", "aria-label": t("bills_title") }, rows.map(({ row }) => row)),
        now.more ? h("p.soft", {}, t("more")) : null,
        h("div.total", {}, count, h("span", {}, `${t("total")} `, sum)),
        h("div.actions", {}, homeButton(), go)].filter(Boolean),
    };
  },

  e_bill: (now) => {
    onKey = null;
    const turn = (name, older) => button("quiet", t(name), () => act({ do: "turn", older }), { "data-act": name.slice("e_bill_".length), disabled: !(older ? now.older : now.newer) });
    const paper = now.slip === "printed" ? h("p.take", { role: "status" }, t("e_bill_printed"))
      : now.slip ? toldBox({ code: "", text: t("e_bill_not_printed"), response_code: "" }) : null;
    return {
      nodes: [steps("e_bill", "bills"),
        h("div.who", {}, h("h1", {}, t("e_bill_title")), h("span.number", {}, `${t("account_field")} ${grouped(now.account)}`), paper),
        toldBox(now.told),
        h("div.months", {}, now.months.map(eBill)),
        h("div.actions.four", {}, homeButton(), turn("e_bill_newer", false), turn("e_bill_older", true),
          button("quiet", t("e_bill_print"), () => act({ do: "print" }), { "data-act": "print" }))].filter(Boolean),
    };
  },

  ask_again: (now) => ({
    nodes: [centre("wait", "warn", t("ask_again_title"), h("p.lead", {}, t("ask_again_text", { account: grouped(now.account), amount: yuan(now.amount) }))),
      h("div.actions", {}, homeButton(), button("go", t("ask_again_yes"), () => act({ do: "again" }), { "data-act": "again" }))],
  }),

  card: (now) => {
    onKey = null;
    return {
      nodes: [steps(now.business, "card"), toldBox(now.told),
        h("div.centre", {}, now.amount ? h("p.money.number", {}, yuan(now.amount)) : null, slot(), h("h1", {}, t("card_title")), h("p.lead", {}, t("card_hint"))),
        h("div.actions", {}, homeButton(t("cancel")))].filter(Boolean),
    };
  },

  pin: (now) => {
    onKey = (key) => bench({ key: key === "delete" ? "clear" : key });
    const dots = Array.from({ length: 6 }, () => h("i", {}));
    const count = h("p.soft", { role: "status" });
    return {
      nodes: [steps(now.business, "pin"), toldBox(now.told),
        h("div.centre", {}, now.amount ? h("p.money.number", {}, yuan(now.amount)) : null, h("p.lead.number", {}, t("pin_card", { card: now.card })),
          h("h1", {}, t("pin_title")), h("div.dots", { "aria-hidden": "true" }, dots), count, h("p.lead", {}, t("pin_hint"))),
        h("div.actions", {}, homeButton(t("cancel")))].filter(Boolean),
      refresh: () => {
        const typedCount = state.bench?.typed ?? 0;
        dots.forEach((dot, index) => dot.classList.toggle("full", index < typedCount));
        count.textContent = t("pin_typed", { n: typedCount });
      },
    };
  },

  busy: (now) => {
    onKey = null;
    return waiting(now.doing, now.amount);
  },

  result: (now) => {
    onKey = null;
    const place = h("div.result.centre", {});
    const actions = h("div.actions", {});
    let shown = "";
    return {
      nodes: [steps(now.business, "done"), place, actions],
      refresh: (latest) => {
        const key = JSON.stringify(latest);
        if (key === shown) return;
        shown = key;
        fillResult(latest, place, actions);
      },
    };
  },

  balance: (now) => ({
    nodes: [steps("balance", "done"),
      h("div.centre", {}, h("div.badge.good", {}, icon("check")), h("h1", {}, t("balance_title")),
        now.accounts.length === 1 ? h("p.money.number", {}, yuan(now.accounts[0]))
          : h("dl.facts.panel", {}, now.accounts.flatMap((each, index) => [h("dt", {}, t("balance_of", { n: index + 1 })), h("dd.number", {}, yuan(each))])),
        h("p.take", {}, t("take_card"))),
      h("div.actions", {}, button("go", t("done"), leave, { "data-act": "done" }))],
  }),

  earlier: () => {
    onKey = null;
    const rows = h("div.rows", {});
    const go = button("go", t("earlier_seen"), () => act({ do: "seen" }), { "data-act": "seen" });
    return {
      nodes: [h("h1", {}, t("earlier_title")), rows, h("div.actions", {}, homeButton(), go)],
      refresh: (now) => {
        rows.replaceChildren(...(now.payments.length ? now.payments.map((each) => h(each.final ? "div.row" : "div.row.wait", {},
          h("b.number", {}, `${t("account_field")} ${each.account}`), h("b.number", {}, yuan(each.amount)),
          h("p", {}, say(each.told)), each.reference ? h("p.soft.number", {}, `${t("result_reference")} ${each.reference}`) : null,
          each.case_number ? h("p.soft.number", {}, `${t("result_case")} ${each.case_number}`) : null)) : [h("p.lead", {}, t("earlier_none"))]));
        go.hidden = !now.payments.some((each) => each.final);
      },
    };
  },

  refused: (now) => {
    onKey = null;
    const offered = Boolean(now.account);
    return {
      nodes: [centre(offered ? "good" : "bad", offered ? "check" : "cross", t(offered ? "no_arrears_title" : "refused_title"), h("p.lead", {}, say(now.told))),
        h("div.actions", {}, homeButton(), offered ? button("go", t("offer_prepay"), () => act({ do: "again" }), { "data-act": "again" }) : null)],
    };
  },
};

function eBill(bill) {
  const owed = bill.amount - bill.paid;
  const state = owed > 0 ? t("e_bill_owed", { amount: yuan(owed) }) : bill.paid_at ? t("e_bill_paid_on", { day: day(bill.paid_at) }) : t("e_bill_paid");
  return h("article.e-bill.number", { "data-period": bill.period },
    h("span", {}, h("b", {}, period(bill.period)), h("span.soft", {}, t("e_bill_read_on", { day: day(bill.read_on) }))), h(owed > 0 ? "span.state.owed" : "span.state", {}, state),
    h("dl", {},
      bill.meters.flatMap((each) => [h("dt", {}, t("e_bill_reading")), h("dd", {}, `${each.reading_before} → ${each.reading}`), h("dd.right", {}, `${each.energy_kwh} kWh`)]),
      bill.steps.flatMap((each) => [h("dt", {}, t("e_bill_tier", { n: each.tier })), h("dd", {}, `${each.energy_kwh} kWh × ¥${each.price}`), h("dd.right", {}, yuan(each.amount))])),
    h("p.sums", {}, h("span", {}, `${t("energy")} ${bill.energy_kwh} kWh`), h("span", {}, `${t("principal")} ${yuan(bill.principal)}`),
      bill.penalty ? h("span.penalty", {}, `${t("penalty")} ${yuan(bill.penalty)}`) : null,
      h("span.sum", {}, `${t("total")} ${yuan(bill.amount)}`)),
    bill.cut ? h("p.soft", {}, t("e_bill_cut")) : null);
}

function fillResult(now, place, actions) {
  const good = now.outcome === "paid" || now.outcome === "being_booked";
  const wait = !now.final || now.outcome === "unproven" || now.outcome === "suspense";
  const title = now.outcome === "paid" && now.business === "prepay" ? t("result_paid_prepay") : t(`result_${now.outcome}`);
  const untouched = ["declined", "refused", "not_charged"].includes(now.outcome);
  const said = say(now.told);
  const kept = ["paid", "being_booked", "suspense"].includes(now.outcome);
  place.className = `result centre${wait ? " wait" : ""}`;
  place.dataset.outcome = now.outcome;
  place.dataset.final = String(now.final);
  place.replaceChildren(...[
    wait ? h("div.badge.wait", {}, icon("wait")) : good ? h("div.badge.good", {}, icon("check")) : h("div.badge.bad", {}, icon("cross")),
    h("h1", { role: "status" }, title),
    good ? h("p.money.number", {}, yuan(now.amount)) : null,
    h("p.lead", {}, said + (untouched && !said.includes(t("no_charge")) ? ` ${t("no_charge")}${language === "zh" ? "。" : "."}` : "")),
    now.final ? null : h("p.lead", {}, t("waiting")),
    h("dl.facts.panel", {}, [
      ["result_amount", good ? "" : yuan(now.amount)],
      ["result_account", grouped(now.account)],
      ["result_reference", now.reference],
      ["result_case", now.case_number],
      ["result_code", now.told.response_code && now.outcome === "declined" ? now.told.response_code : ""],
    ].filter(([, value]) => value).flatMap(([name, value]) => [h("dt", {}, t(name)), h("dd.number", {}, value)])),
    kept && now.slip && now.slip !== "printed" ? h("p.warning", {}, icon("warn"), t("slip_failed")) : null,
    now.retry === "pin" ? null : h("p.take", {}, t(now.slip === "printed" ? "take_slip" : "take_card")),
  ].filter(Boolean));
  const done = now.retry || !now.final ? homeButton(now.final ? t("home") : t("leave_now"), "done") : button("go", t("done"), leave, { "data-act": "done" });
  const print = kept && now.slip && now.slip !== "printed" ? button("quiet", t("slip_again"), () => act({ do: "print" }), { "data-act": "print" }) : null;
  actions.replaceChildren(...[print, done, now.retry ? button("go", t(now.retry === "pin" ? "retry_pin" : "retry"), () => act({ do: "again" }), { "data-act": "again" }) : null].filter(Boolean));
}

function centre(kind, name, title, ...more) {
  onKey = null;
  return h(kind === "wait" ? "div.centre.wait" : "div.centre", {}, h(`div.badge.${kind}`, {}, icon(name)), h("h1", {}, title), ...more);
}

function waiting(doing, amount = 0) {
  onKey = null;
  return { nodes: [h("div.centre", { role: "status" }, h("div.spinner", { "aria-hidden": "true" }), h("h1", {}, t(doing)),
    amount ? h("p.money.number", {}, yuan(amount)) : null, h("p.lead", {}, t(`${doing}_hint`)))] };
}

/** Lines and nodes, one way through them lit: what this is all about. */
function network() {
  const nodes = [[40, 150], [110, 70], [130, 190], [200, 120], [235, 30], [290, 175], [330, 85], [395, 140], [400, 25]];
  const lines = [[0, 1], [0, 2], [1, 3], [2, 3], [1, 4], [3, 6], [2, 5], [5, 6], [4, 6], [6, 8], [6, 7], [5, 7]];
  const way = [0, 1, 3, 6, 8];
  const d = (list) => list.map(([from, to]) => `M${nodes[from]}L${nodes[to]}`).join("");
  return svg("svg", { class: "net", viewBox: "0 0 430 220", preserveAspectRatio: "xMaxYMid meet", "aria-hidden": "true" },
    svg("path", { d: d(lines) }), svg("path", { class: "live", d: d(way.slice(1).map((to, index) => [way[index], to])) }),
    ...nodes.map(([cx, cy], index) => svg("circle", way.includes(index) ? { class: "live", cx, cy, r: 7 } : { cx, cy, r: 6 })));
}

function slot() {
  return svg("svg", { class: "slot", viewBox: "0 0 240 200", "aria-hidden": "true" },
    svg("g", { class: "moving" }, svg("rect", { class: "card", x: 60, y: 58, width: 120, height: 76, rx: 10 }),
      svg("rect", { class: "stripe", x: 61, y: 106, width: 118, height: 14 }), svg("rect", { class: "chip", x: 76, y: 78, width: 24, height: 18, rx: 4 })),
    svg("rect", { class: "machine", x: 20, y: 8, width: 200, height: 64, rx: 14 }), svg("rect", { class: "mouth", x: 48, y: 52, width: 144, height: 10, rx: 5 }),
    svg("circle", { class: "led", cx: 120, cy: 30, r: 9 }));
}

// ------------------------------------------------------------------------------------------------ simulated devices
const benchKeys = new Map();

/** Each device by itself: one that did not change stays under the finger that is on it. */
function paintBench() {
  const place = byId("bench");
  const shown = alive && state?.bench ? state.bench : null;
  place.hidden = !shown;
  if (!shown) return;
  const screen = view().screen;
  const parts = {
    head: [benchHead, shown.line, shown.paper],
    hand: [hand, screen === "account", screen === "card", shown.card_inside, shown.cards, shown.accounts],
    pad: [pad, shown.pin_asked],
    printer: [printer, shown.slips],
  };
  place.setAttribute("aria-label", t("bench"));
  for (const [name, [make, ...facts]] of Object.entries(parts)) {
    const key = JSON.stringify([language, facts]);
    if (benchKeys.get(name) === key) continue;
    benchKeys.set(name, key);
    const focused = document.activeElement?.dataset?.bench;
    const made = make(shown, screen);
    made.id = `bench-${name}`;
    const old = byId(made.id);
    if (old) old.replaceWith(made);
    else place.append(made);
    if (focused && document.activeElement === document.body) made.querySelector(`[data-bench="${focused}"]`)?.focus();
  }
}

function benchHead(shown) {
  const toggle = (name, on, off) => button(on ? "bench-button" : "bench-button.off", `${t(`switch_${name}`)} ${on ? t("on") : t(off)}`,
    () => bench({ [name]: !on }), { "data-bench": name, "aria-pressed": String(!on) });
  return h("div.bench-head", {}, h("div", {}, h("b", {}, t("bench")), h("br", {}), h("span", {}, t("bench_hint"))),
    h("div.faults", {}, toggle("line", shown.line, "off_line"), toggle("paper", shown.paper, "off_paper"),
      button("bench-button", t("power"), () => bench({ power: true }), { "data-bench": "power" })));
}

function hand(shown, screen) {
  if (screen === "account") {
    return h("section.device.lit", {}, h("h2", {}, t("hand_accounts")),
      shown.accounts.map((each) => button("bill", [h("b.number", {}, grouped(each.id)), h("span", {}, t("months_owed", { n: each.detail }))],
        () => { typed = ""; for (const digit of each.id) onKey?.(digit); }, { "data-bench": `account-${each.id}` })));
  }
  const wanted = screen === "card";
  return h(wanted ? "section.device.lit" : "section.device", {}, h("h2", {}, t(wanted ? "hand_cards" : "hand_idle")),
    wanted ? null : h("p", {}, t(shown.card_inside ? "hand_inside" : "hand_idle_hint")),
    h("div.cards", {}, shown.cards.map((each) => button("card", [h("b", {}, language === "en" ? each.label_en : each.label), h("span.number", {}, each.detail, h("em", {}, t("test")))],
      () => bench({ card: each.id }), { disabled: !wanted, "data-bench": `card-${each.id}` }))));
}

function pad(shown) {
  const key = (label, name, kind = "key") => button(kind, label, () => bench({ key: name }), { disabled: !shown.pin_asked, "data-bench": `key-${name}` });
  return h(shown.pin_asked ? "section.device.lit" : "section.device", {}, h("h2", {}, t("pad")), h("p", {}, t("pad_hint")),
    h("div.pad", {}, ["1", "2", "3", "4", "5", "6", "7", "8", "9"].map((digit) => key(digit, digit)), key("0", "0", "zero"),
      key(t("pad_cancel"), "cancel", "word.cancel"), key(t("pad_clear"), "clear", "word.clear"), key(t("pad_enter"), "enter", "word.enter")));
}

function printer(shown) {
  const has = shown.slips.length > 0;
  return h(has ? "section.device.lit" : "section.device", {}, h("h2", {}, t("printer")), has ? null : h("p", {}, t("printer_empty")),
    h("div.tray", {}, shown.slips.map(slip)),
    has ? h("div.tray-actions", {}, button("bench-button", t("slip_view"), () => enlarge(shown.slips), { "data-bench": "view" }),
      button("bench-button", t("slip_take"), () => bench({ take_slips: true }), { "data-bench": "take" })) : null);
}

function slip(each) {
  return h("div.slip", { lang: "zh-CN" }, each.lines.map((line) => (/^-+$/.test(line) ? h("hr", {}) : h("pre", {}, line.trim() || " "))), each.qr.length ? qr(each.qr) : null);
}

function qr(rows) {
  const path = rows.flatMap((row, y) => [...row].map((module, x) => (module === "1" ? `M${x} ${y}h1v1h-1z` : ""))).join("");
  return svg("svg", { viewBox: `0 0 ${rows.length} ${rows.length}`, role: "img", "aria-label": "QR" }, svg("path", { d: path }));
}

function enlarge(slips) {
  const paper = byId("paper");
  paper.replaceChildren(...slips.map(slip), button("go", t("close"), () => paper.close()));
  paper.setAttribute("aria-label", t("slip_of"));
  paper.showModal();
  paper.scrollTop = 0; // the button has the focus, and it is at the end
}

// ------------------------------------------------------------------------------------------------ begin
document.addEventListener("pointerdown", touch);
document.addEventListener("keydown", (event) => {
  touch();
  if (event.ctrlKey || event.metaKey || event.altKey || byId("paper").open) return;
  const onButton = event.target instanceof HTMLButtonElement;
  if (/^\d$/.test(event.key) && onKey) onKey(event.key);
  else if (event.key === "Backspace" && onKey) onKey("delete");
  else if (event.key === "Enter" && onKey && !onButton) onKey("enter");
  else if (event.key === "Escape") byId("main").querySelector(`.quiet:not([data-act="print"])`)?.click();
});
document.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press on a touch screen
setInterval(() => { if (texts) { refresh(view()); tick(); } }, 1000);

texts = await (await fetch("/texts.json")).json();
listen();
