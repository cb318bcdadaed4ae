// Every page: htmx, the owner's reserve slider and the form of an event.
import htmx from "htmx.org";
import { wireCompose } from "./compose.js";
import { wireReserves } from "./reserve.js";

htmx.onLoad((root) => {
  wireReserves(root);
  wireCompose(root);
});

// An answer that is a problem is said where it happened, never swallowed.
document.addEventListener("htmx:responseError", (event) => say(event.detail.elt, problemOf(event.detail.xhr)));
document.addEventListener("htmx:sendError", (event) => say(event.detail.elt, "The server cannot be reached. Try again."));
document.addEventListener("htmx:timeout", (event) => say(event.detail.elt, "The server took too long. Try again."));

function problemOf(xhr) {
  if (xhr.status === 401) return "You are signed out. Load the page again to sign in.";
  try {
    const problem = JSON.parse(xhr.responseText);
    return `Not saved: ${problem.detail || problem.title}`;
  } catch {
    return `Not saved: the server answered ${xhr.status}.`;
  }
}

function say(element, text) {
  const place = element.querySelector("[data-problem]");
  if (!place) return;
  place.textContent = text;
  place.hidden = false;
}
