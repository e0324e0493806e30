// The list keeps itself up to date, without taking away what somebody is at: focus, selection, place, what they type.
import { $, $$, announce, parsed } from "./page.js";

const PAUSE = 2000; // ms between two looks, at least
const MARKED = 4000; // ms for which a new row is marked
let timer, looking = false, again = false, last = -PAUSE, came = 0, told;
const became = new Map(); // request id -> the event that took it off the list

const listing = () => $("#listing");
const rows = (root = document) => $$("#rows > li", root);

/** Look at the list soon: not at each event, not all watchers at once, and not while nobody looks. */
function soon(within = 400) {
  if (!listing() || timer || document.hidden) return;
  if (looking) return void (again = true);
  const wait = Math.max(100, last + PAUSE - performance.now()) + Math.random() * within;
  timer = setTimeout(look, wait);
}

async function look() {
  timer = undefined;
  looking = true;
  last = performance.now();
  const place = location.href;
  try {
    const response = await fetch(place, { headers: { "X-Part": "list", accept: "text/html" } });
    const fresh = response.ok && parsed(await response.text()).getElementById("listing");
    if (fresh && place === location.href) take(document.adoptNode(fresh));
  } catch {
    // The stream tells when there is a connection again.
  } finally {
    looking = false;
    if (again) soon();
    again = false;
  }
}

/** Take over what is new in another state of the list. */
function take(fresh) {
  const old = listing();
  const known = new Map(rows(old).map((row) => [row.dataset.id, row]));
  const arrived = rows(fresh).filter((row) => !known.has(row.dataset.id));
  const list = $("#rows", old), next = $("#rows", fresh);
  if (list && next) {
    merge(list, [...next.children], known);
    for (const part of ["#count", ".pager"]) replace($(part, old), $(part, fresh), old);
  } else if (list && rows(old).some(isHeld)) {
    merge(list, [], known); // nothing waits any more, but somebody is at a row
    replace($("#count", old), $("#count", fresh), old);
  } else {
    old.replaceChildren(...fresh.childNodes);
  }
  old.dataset.seq = fresh.dataset.seq;
  for (const row of arrived) {
    row.classList.add("fresh");
    setTimeout(() => row.classList.remove("fresh"), MARKED);
  }
  count();
  say(arrived.length);
}

/** Bring the rows of a list into another order and state. Each row stays the element that it was. */
function merge(list, wanted, known) {
  const ids = new Set(wanted.map((row) => row.dataset.id));
  for (const [id, row] of known) {
    if (ids.has(id)) continue;
    if (isHeld(row)) leave(row);
    else row.remove();
  }
  let place = list.firstElementChild;
  for (const row of wanted) {
    while (place?.classList.contains("gone")) place = place.nextElementSibling;
    const here = known.get(row.dataset.id);
    if (here) update(here, row);
    const put = here ?? row;
    if (put === place) place = place.nextElementSibling;
    else list.insertBefore(put, place);
  }
}

function update(row, fresh) {
  if (row.classList.contains("gone")) {
    row.classList.remove("gone");
    $(".became", row)?.remove();
  }
  for (const part of [".open", ".row-facts", ".row-side"]) {
    const now = $(part, row), then = $(part, fresh);
    if (!now.isEqualNode(then)) now.replaceChildren(...then.childNodes);
  }
}

function replace(now, then, parent) {
  if (now && then) now.replaceWith(then);
  else if (now) now.remove();
  else if (then) parent.append(then);
}

const isHeld = (row) => row.contains(document.activeElement) && row.matches(":has(:focus-visible)") && !document.hidden;

/** A row that is not on the list any more while somebody is at it: it stays until they move on, and says why. */
function leave(row) {
  if (row.classList.contains("gone")) return;
  row.classList.add("gone");
  const box = $("input", row);
  if (box) {
    box.checked = false;
    box.disabled = true;
  }
  const event = became.get(row.dataset.id);
  const text = event?.name === "request.decided" ? `decided by ${event.actor}` : event?.name === "request.claimed" ? `claimed by ${event.actor}` : "not on this list any more";
  const says = document.createElement("span");
  says.className = "badge note became";
  says.textContent = text;
  $(".row-facts", row).prepend(says);
  announce(`This request: ${text}`);
  row.addEventListener("focusout", (event) => {
    if (!row.contains(event.relatedTarget)) setTimeout(() => row.classList.contains("gone") && row.remove());
  });
}

/** Tell how many are new, when no more come for a moment. */
function say(more) {
  came += more;
  clearTimeout(told);
  if (!came) return;
  told = setTimeout(() => {
    announce(came === 1 ? "1 new request" : `${came} new requests`);
    came = 0;
  }, 1500);
}

/** How many rows are selected. */
function count() {
  const picked = $$('#rows input[name="pick"]:checked').length;
  const place = $("#picked");
  if (!place) return;
  place.textContent = `${picked} selected`;
  for (const button of $$('#bulk button[name="word"]')) {
    const word = button.value === "approve" ? "Approve" : "Reject";
    button.textContent = picked ? `${word} ${picked}…` : `${word}…`;
  }
}

document.addEventListener("hitl:event", ({ detail }) => {
  if (became.size > 1000) became.clear();
  became.set(detail.request_id, detail);
  soon();
});
document.addEventListener("hitl:catch-up", () => soon(1500));
document.addEventListener("change", (event) => {
  if (event.target.matches?.('input[name="pick"]')) count();
});
document.addEventListener("reset", () => setTimeout(count));
addEventListener("pageshow", count); // a browser that goes back ticks what was ticked
setInterval(() => !document.hidden && soon(), 60_000); // ages and deadlines move without any event

// htmx applies filters at once; without scripts a button does. What is empty stays out of the address.
document.addEventListener("htmx:configRequest", ({ detail }) => {
  if (detail.elt.id !== "filters") return;
  for (const [name, value] of [...detail.formData.entries()]) if (!String(value).trim()) detail.formData.delete(name);
});
document.addEventListener("htmx:afterSettle", ({ target }) => {
  if (target.id !== "listing") return;
  count();
  announce($("#count")?.textContent.trim().replace(/\s+/g, " ") || $(".empty h2")?.textContent);
});

document.addEventListener("click", ({ target }) => {
  for (const menu of $$("details.menu[open]")) if (!menu.contains(target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && event.target.closest?.("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  $("summary", menu).focus();
});
