// The stream of events. Tells the page of each as `hitl:event`, and as `hitl:catch-up` after it may have missed some.
import { $ } from "./page.js";

const url = document.body.dataset.events;
let stream, retry, alarm, position, pause = 1000, missed = false;

function show(connected) {
  const live = $("#live");
  clearTimeout(alarm);
  if (connected) {
    live.hidden = false;
    live.classList.remove("lost");
    $("#live-text").textContent = "Live";
    $("#offline").hidden = true;
  } else {
    missed = true;
    live.classList.add("lost");
    $("#live-text").textContent = "Connecting…";
    alarm = setTimeout(() => ($("#offline").hidden = false), navigator.onLine ? 3000 : 0);
  }
}

function open() {
  close();
  const from = position ?? $("[data-seq]")?.dataset.seq;
  stream = new EventSource(from === undefined ? url : `${url}?after=${encodeURIComponent(from)}`);
  stream.addEventListener("open", () => {
    pause = 1000;
    show(true);
    if (missed) document.dispatchEvent(new CustomEvent("hitl:catch-up"));
    missed = false;
  });
  stream.addEventListener("request", (event) => {
    position = event.lastEventId || position;
    document.dispatchEvent(new CustomEvent("hitl:event", { detail: JSON.parse(event.data) }));
  });
  stream.addEventListener("resync", (event) => {
    position = event.lastEventId || position;
    document.dispatchEvent(new CustomEvent("hitl:catch-up"));
  });
  stream.addEventListener("error", () => {
    show(false);
    if (stream.readyState !== EventSource.CLOSED) return; // it tries again by itself
    retry = setTimeout(open, pause * (1 + Math.random()));
    pause = Math.min(pause * 2, 30_000);
  });
}

function close() {
  clearTimeout(retry);
  stream?.close();
  stream = undefined;
}

if (url) {
  open();
  // A browser gives one server few connections: tabs that nobody looks at leave theirs to others.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      close();
      clearTimeout(alarm);
      missed = true;
    } else open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => {
    if (event.persisted) {
      missed = true;
      open();
    }
  });
  addEventListener("offline", () => show(false));
  addEventListener("online", () => {
    missed = true;
    open();
  });
}
