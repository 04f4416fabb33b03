// Follows an order. The server sends the parts of the page that changed, already rendered and escaped. Without this
// script, the page reloads instead.
"use strict";

const follow = document.getElementById("follow");
const link = document.getElementById("link");
const name = document.title.slice(document.title.lastIndexOf(" · "));
let source;
let retry;
let wait = 1000;

function connect() {
  clearTimeout(retry);
  // A browser opens at most six connections to a server. A page that nobody sees keeps none.
  if (source || document.hidden) return;
  source = new EventSource(follow.dataset.events);
  source.onmessage = (event) => {
    wait = 1000;
    link.hidden = true;
    show(new DOMParser().parseFromString(event.data, "text/html"));
  };
  source.onerror = () => {
    disconnect();
    link.hidden = false;
    retry = setTimeout(connect, wait * (1 + Math.random() / 2));
    wait = Math.min(wait * 2, 15000);
  };
}

function disconnect() {
  clearTimeout(retry);
  if (source) source.close();
  source = undefined;
}

function show(fresh) {
  for (const part of fresh.querySelectorAll("[data-live]")) {
    const old = document.getElementById(part.id);
    if (old.dataset.key === part.dataset.key) continue;
    const hadFocus = old.contains(document.activeElement);
    old.replaceChildren(...part.childNodes);
    Object.assign(old.dataset, part.dataset);
    // The button that had it may be gone.
    if (hadFocus && !document.activeElement.closest("[data-live]")) document.getElementById("headline").focus();
  }
  document.title = document.getElementById("state").dataset.title + name;
  prepare();
}

function prepare() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = !navigator.clipboard;
  }
  count();
}

function count() {
  const clock = document.getElementById("countdown");
  if (!clock) return;
  const left = Math.floor((Date.parse(clock.dateTime) - Date.now()) / 1000);
  const two = (number) => String(number).padStart(2, "0");
  clock.textContent = left > 0 ? `${Math.floor(left / 60)}:${two(left % 60)}` : "the window has closed, please do not pay any more";
  clock.classList.toggle("soon", left < 120);
}

follow.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const said = document.getElementById("copied");
  try {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    said.textContent = "Copied.";
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 1500);
  } catch {
    said.textContent = "Not copied. Please select the text.";
  }
});
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
window.addEventListener("pageshow", connect);
window.addEventListener("pagehide", disconnect);
setInterval(count, 1000);
prepare();
connect();
