// Keyboard shortcuts: single keys, off where one types, with a modifier, in a dialog, and where somebody turned them off.
import { $, $$, keep, recall } from "./page.js";

const WORDS = { a: "approve", e: "edit", r: "reject", c: "respond" };
const OFF = "hitl-keys-off";
const help = $("#help");
let after = "", since = 0;

const rows = () => $$("#rows > li");
const current = () => document.activeElement?.closest?.("#rows > li");
const opener = (row) => $("a.open", row);
const typing = (target) =>
  target.isContentEditable || target.matches?.('textarea, select, input:not([type="checkbox"], [type="radio"], [type="button"], [type="submit"])');

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(current());
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1)];
  opener(next).focus();
  next.scrollIntoView({ block: "nearest" });
}

/** Go to an answer of the card: its button, or the first field of what it opens. Nothing is sent. */
function reach(word) {
  const answer = $(`[data-answer="${word}"]`);
  if (!answer) return false;
  if (answer.matches("details")) answer.open = true;
  const field = answer.matches("button, a, input") ? answer : $("textarea, input:not([type=hidden]), select, button", answer) ?? answer;
  field.focus();
  field.scrollIntoView({ block: "center" });
  return true;
}

function act(word) {
  if (reach(word)) return;
  const row = current();
  if (row && !row.classList.contains("gone")) location.assign(`${opener(row).href}#${word}`);
}

const ACTIONS = {
  j: () => move(1),
  k: () => move(-1),
  o: () => current() && opener(current()).click(),
  x: () => {
    const box = current() && $('input[type="checkbox"]', current());
    if (box && !box.disabled) box.click();
  },
  "/": () => {
    const search = $("#search");
    search?.focus();
    search?.select();
  },
  "?": () => help?.showModal(),
  u: () => document.body.dataset.inbox && !$("#rows") && location.assign(document.body.dataset.inbox),
  "g i": () => document.body.dataset.inbox && location.assign(document.body.dataset.inbox),
};
for (const [key, word] of Object.entries(WORDS)) ACTIONS[key] = () => act(word);

document.addEventListener("keydown", (event) => {
  // Enter that is held, or that was meant for the page before, answers nothing.
  if (event.key === "Enter" && event.target.closest?.("[data-answer]") && event.target.matches("button") && (event.repeat || performance.now() < 700)) {
    return event.preventDefault();
  }
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if ($("dialog[open]")) return;
  if ((event.key === "ArrowDown" || event.key === "ArrowUp") && current()) {
    move(event.key === "ArrowDown" ? 1 : -1);
    return event.preventDefault();
  }
  if (recall(OFF) === "yes") return;
  const key = performance.now() - since < 1500 && ACTIONS[`${after} ${event.key}`] ? `${after} ${event.key}` : event.key;
  after = event.key;
  since = performance.now();
  if (!ACTIONS[key] || (event.repeat && key !== "j" && key !== "k")) return;
  event.preventDefault();
  ACTIONS[key]();
});

$("#help-button")?.addEventListener("click", () => help.showModal());
const on = $("#keys-on");
if (on) {
  on.checked = recall(OFF) !== "yes";
  on.addEventListener("change", () => keep(OFF, on.checked ? "no" : "yes"));
}
if (Object.values(WORDS).includes(location.hash.slice(1))) reach(location.hash.slice(1));
