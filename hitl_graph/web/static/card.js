// The page of one request: what an edit changes as one types, news of it, the conversation, keys in its forms.
import { $, $$, announce, parsed } from "./page.js";

const MOST = 600; // words that are compared; more would take too long while somebody types

/** From one text to another, word by word: the longest common sequence, as [kind, text] pairs. */
function words(before, after) {
  const split = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];
  const one = split(before), two = split(after);
  if (one.length > MOST || two.length > MOST) return [["removed", before], ["added", after]];
  const long = one.map(() => new Uint16Array(two.length + 1)).concat([new Uint16Array(two.length + 1)]);
  for (let i = one.length - 1; i >= 0; i--)
    for (let j = two.length - 1; j >= 0; j--)
      long[i][j] = one[i] === two[j] ? long[i + 1][j + 1] + 1 : Math.max(long[i + 1][j], long[i][j + 1]);
  const pieces = [];
  const add = (kind, text) => (pieces.at(-1)?.[0] === kind ? (pieces.at(-1)[1] += text) : pieces.push([kind, text]));
  let i = 0, j = 0;
  while (i < one.length || j < two.length) {
    if (i < one.length && j < two.length && one[i] === two[j]) add("same", one[i++]), j++;
    else if (i < one.length && (j === two.length || long[i + 1][j] >= long[i][j + 1])) add("removed", one[i++]);
    else add("added", two[j++]);
  }
  return pieces;
}

/** Show in a field what is another one now. */
function compare(input, touched) {
  const field = input.closest("[data-field]"), was = $(".was", field);
  const named = (text) => (input.matches("select") ? ([...input.options].find((o) => o.value === text)?.text ?? text) : text);
  const before = input.dataset.was.replaceAll("\r\n", "\n"), after = input.value;
  field.classList.toggle("edited", before !== after);
  was.hidden = before === after;
  was.replaceChildren(
    ...words(named(before), named(after)).map(([kind, text]) => {
      if (kind === "same") return document.createTextNode(text);
      const piece = document.createElement(kind === "added" ? "ins" : "del");
      piece.textContent = text;
      return piece;
    }),
  );
  const presence = $(".presence", field), chosen = presence && [...presence.options].find((one) => one.defaultSelected);
  if (presence && touched) presence.value = before !== after ? "given" : (chosen?.value ?? presence.value);
}

/** Somebody did something with this request: take nothing that was made for what it was. */
async function look() {
  const card = $("#card");
  if (!card || card.dataset.looking) return;
  card.dataset.looking = "yes";
  try {
    const response = await fetch(location.pathname, { headers: { accept: "text/html" } });
    if (!response.ok) return;
    const fresh = $("#card", parsed(await response.text()));
    if (!fresh || fresh.dataset.request !== card.dataset.request || !card.isConnected) return; // else one's own answer
    $("#side").replaceWith(document.adoptNode($("#side", fresh)));
    if (fresh.dataset.version === card.dataset.version) return;
    const changed = $("#changed");
    $("span", changed).textContent = `${fresh.dataset.news[0].toUpperCase()}${fresh.dataset.news.slice(1)}.`;
    changed.hidden = false;
    const answers = $(".answers");
    answers?.classList.add("stale");
    for (const button of $$("[data-answer-form] button", answers ?? card)) button.disabled = true;
    announce(changed.textContent.trim());
  } catch {
    // the next event, or the server, will tell
  } finally {
    delete card.dataset.looking;
  }
}

async function load(details) {
  if (details.dataset.loaded) return;
  details.dataset.loaded = "yes";
  try {
    const response = await fetch(details.dataset.load, { headers: { accept: "text/html" } });
    const messages = $("#messages", parsed(await response.text()));
    if (!response.ok || !messages) throw new Error(response.statusText);
    $("p", details).replaceWith(document.adoptNode(messages));
  } catch {
    delete details.dataset.loaded;
  }
}

function find(box) {
  const wanted = box.value.trim().toLowerCase(), turns = $$("[data-turn]", box.closest("#messages"));
  for (const turn of turns) turn.hidden = !turn.textContent.toLowerCase().includes(wanted);
}

/** A click on a line of the draft names it in the next remark. */
function remarkOn(line) {
  const remarks = $("[data-remarks]"), code = line.closest("[data-file]");
  if (!remarks) return;
  let place = $$("[data-remark]", remarks).find((one) => !$("input", one).value && !$$("input", one)[1].value);
  if (!place) {
    const rows = $$("[data-remark]", remarks), next = rows.length;
    place = rows.at(-1).cloneNode(true);
    $(".error", place)?.remove();
    for (const [input, name, label] of [[$$("input", place)[0], "where", "Place"], [$$("input", place)[1], "remark", "Remark"]]) {
      input.name = `${name}${next}`;
      input.value = "";
      input.setAttribute("aria-label", `${label} ${next + 1}`);
      input.removeAttribute("aria-invalid");
    }
    remarks.append(place);
  }
  const number = [...code.children].indexOf(line) + 1;
  $("input", place).value = code.dataset.file ? `${code.dataset.file}:${number}` : String(number);
  remarks.closest("details").open = true;
  $$("input", place)[1].focus();
}

/** How long there is until then, in the server's words: `3h 12m`. */
function left(until) {
  const seconds = Math.floor((Date.parse(until) - Date.now()) / 1000);
  if (seconds < 0) return "0s";
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24, minutes = Math.floor(seconds / 60) % 60;
  if (days) return hours ? `${days}d ${hours}h` : `${days}d`;
  if (hours) return minutes ? `${hours}h ${minutes}m` : `${hours}h`;
  return minutes ? `${minutes}m` : `${seconds}s`;
}

setInterval(() => {
  for (const place of $$("[data-until]")) place.textContent = left(place.dataset.until);
}, 15_000);

function began() {
  for (const input of $$("[data-was]")) compare(input);
  if ($("[data-remarks]")) for (const line of $$(".code:not(.patch) > li")) line.dataset.line = "";
}

document.addEventListener("input", (event) => {
  if (event.target.matches("[data-was]")) compare(event.target, true);
  if (event.target.matches("[data-find]")) find(event.target);
  if (event.target.name === "text" && event.target.value) {
    const other = $('input[name="option"][value="other"]', event.target.form);
    if (other) other.checked = true;
  }
});
document.addEventListener("submit", (event) => {
  if ($("[data-find]", event.target)) event.preventDefault();
});
document.addEventListener("toggle", (event) => event.target.id === "conversation" && event.target.open && load(event.target), true);
document.addEventListener("click", (event) => {
  const line = event.target.closest?.("[data-line]");
  if (line && !String(getSelection())) remarkOn(line);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.repeat || event.isComposing) return;
  const form = event.target.form;
  if (!form?.matches("[data-answer-form]")) return;
  event.preventDefault();
  const button = $(".act button:not([name])", form);
  if (!button.disabled) form.requestSubmit(button);
});
document.addEventListener("hitl:event", (event) => event.detail.request_id === $("#card")?.dataset.request && look());
document.addEventListener("hitl:catch-up", look);
document.addEventListener("hitl:shown", began);
began();
