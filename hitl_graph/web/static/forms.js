// Sends forms marked `data-send` once, and keeps what was typed until it is known what became of it.
//
// A lost answer of the server leads to a look at what happened (`data-check`: an address, else this page's), never to a
// second try by itself. The server answers with a page; its main part replaces ours.
import { $, announce, csrf, parsed } from "./page.js";

const OFFLINE = "You are offline. Nothing was sent, and what you typed stays here. Send it again when you are back.";
const LOST = "The connection was lost before an answer came. It may have been recorded, or not.";
const AGAIN = "It was not recorded. What you typed is still here; you can send it again.";
const OUT = "You are not logged in any more. Nothing was recorded, and what you typed stays here. Log in in another tab, then send it again.";

/** Say something in a form. `action`: a button's label and what it does. */
function tell(form, text, kind = "warn", action) {
  let place = $(".sent", form);
  if (!place) {
    place = document.createElement("div");
    place.setAttribute("role", "alert");
    form.prepend(place);
  }
  place.className = `sent notice ${kind}`;
  place.textContent = text;
  if (action) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = action[0];
    button.addEventListener("click", action[1]);
    place.append(" ", button);
  }
  place.scrollIntoView({ block: "nearest" });
}

function busy(form, on) {
  form.dataset.busy = on ? "true" : "";
  for (const button of form.elements) {
    if (button.type === "submit") button.disabled = on;
  }
}

/** Put the main part of a page in place of ours. */
export function show(page, url) {
  const fresh = $("main", page);
  $("main").replaceWith(document.adoptNode(fresh));
  document.title = page.title;
  const token = $('meta[name="csrf"]', page)?.content;
  if (token) $('meta[name="csrf"]').content = token;
  if (url && url !== location.href) history.pushState(null, "", url);
  window.htmx?.process(fresh);
  document.dispatchEvent(new CustomEvent("hitl:shown"));
  const first = $("[data-focus], [role=alert], .notice, h1", fresh) ?? fresh;
  if (!first.hasAttribute("tabindex")) first.tabIndex = -1;
  first.focus({ preventScroll: true });
  scrollTo(0, 0);
}

const loggedOut = (response) => response.status === 401 || (response.redirected && new URL(response.url).pathname.endsWith("/login"));
const mark = (form) => ["digest", "version"].map((name) => form.elements.namedItem(name)?.value).join(" ");

/** See whether a form whose answer was lost has been taken: the page still shows it, with the same marks, or not. */
async function check(form) {
  try {
    const response = await fetch(form.dataset.check || location.href, { headers: { accept: "text/html" } });
    if (loggedOut(response)) return tell(form, OUT, "warn", ["Check what happened", () => check(form)]);
    if (response.status >= 500) throw new Error(response.statusText);
    const page = parsed(await response.text());
    const same = [...page.forms].some((other) => other.getAttribute("action") === form.getAttribute("action") && mark(other) === mark(form));
    if (!same) return show(page, response.url);
    busy(form, false);
    tell(form, AGAIN, "note");
  } catch {
    tell(form, `${LOST} Nobody can be asked now.`, "warn", ["Check what happened", () => check(form)]);
  }
}

/** Send a form. */
export async function send(form, submitter) {
  if (form.dataset.busy) return;
  if (!navigator.onLine) return tell(form, OFFLINE);
  const body = new URLSearchParams();
  for (const [name, value] of new FormData(form, submitter)) body.append(name, value);
  busy(form, true);
  try {
    const headers = { "X-CSRF-Token": csrf(), accept: "text/html" };
    const response = await fetch(submitter?.hasAttribute("formaction") ? submitter.formAction : form.action, { method: "POST", body, headers });
    if (loggedOut(response)) {
      busy(form, false);
      return tell(form, OUT);
    }
    if (response.status === 429) {
      busy(form, false);
      return tell(form, "Too many answers at once. Nothing was recorded; wait a moment, then send it again.");
    }
    if (response.status >= 500) throw new Error(response.statusText);
    const page = parsed(await response.text());
    if (!$('meta[name="csrf"]', page)) {
      busy(form, false);
      return tell(form, ($("p", page) ?? page.body).textContent.trim().slice(0, 500) || response.statusText, "bad");
    }
    show(page, response.redirected ? response.url : undefined);
    announce($("[role=alert], .notice", $("main"))?.textContent.trim() ?? document.title);
  } catch {
    tell(form, LOST, "warn", ["Check what happened", () => check(form)]);
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || !form.matches("form[data-send]")) return;
  event.preventDefault();
  send(form, event.submitter);
});
