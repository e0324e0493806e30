// Small things that the other scripts share.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
export const csrf = () => $('meta[name="csrf"]')?.content ?? "";
export const parsed = (text) => new DOMParser().parseFromString(text, "text/html");

let spoken;

/** Tell people who do not see the page, when they are done with what they do. */
export function announce(text) {
  const place = $("#announce");
  if (!place) return;
  place.textContent = "";
  clearTimeout(spoken);
  spoken = setTimeout(() => (place.textContent = text), 100);
}

/** Remember something in this browser; where that is forbidden, until the page is left. */
const kept = new Map();
export function keep(name, value) {
  kept.set(name, value);
  try {
    localStorage.setItem(name, value);
  } catch {}
}
export function recall(name) {
  try {
    return localStorage.getItem(name) ?? kept.get(name);
  } catch {
    return kept.get(name);
  }
}
