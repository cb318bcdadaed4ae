// The operator's live event page: texts, states, problems and chart are replaced by what the stream sends.
import { EventChart } from "./chart.js";
import { SupplyChart } from "./supply.js";

const SILENT_MS = 45_000;
const feed = document.querySelector("[data-feed]");
const chartBox = document.querySelector("[data-chart]");
const chart = new EventChart(chartBox, JSON.parse(chartBox.dataset.chart));

let cycle = JSON.parse(feed.dataset.cycle);
drawSupply(document);
// htmx puts a new cycle's reasons in place; their chart is drawn then
document.body.addEventListener("htmx:load", (event) => drawSupply(event.target));

let silence;
const source = new EventSource(feed.dataset.feed);
source.onopen = () => status("live", "Live");
source.onmessage = (event) => {
  const picture = JSON.parse(event.data);
  heard();
  if (picture.trouble) return trouble(picture.trouble);
  trouble("");
  show(picture);
};
source.addEventListener("unchanged", (event) => {
  heard();
  asOf(JSON.parse(event.data));
});
source.onerror = () => {
  const gone = source.readyState === EventSource.CLOSED;
  status("broken", gone ? "Not live: load the page again" : "Connection lost, trying again");
};
addEventListener("pagehide", () => source.close());

function heard() {
  status("live", "Live");
  clearTimeout(silence);
  silence = setTimeout(() => status("broken", "No news: numbers may be old"), SILENT_MS);
}

function status(name, words) {
  feed.dataset.status = name;
  const place = feed.querySelector("[data-feed-word]");
  if (place.textContent !== words) place.textContent = words;
}

function asOf(text) {
  if (text) document.querySelector("[data-as-of]").textContent = text;
}

function trouble(text) {
  const place = document.querySelector("[data-trouble]");
  place.textContent = text;
  place.hidden = text === "";
}

function show(picture) {
  asOf(picture.as_of);
  for (const [key, text] of Object.entries(picture.text)) {
    for (const place of document.querySelectorAll(`[data-live="${key}"]`)) put(place, text);
  }
  for (const [key, on] of Object.entries(picture.alarm)) {
    for (const place of document.querySelectorAll(`[data-alarm="${key}"]`)) place.classList.toggle("bad", on);
  }
  showCards(picture.cards);
  showStates(picture.states);
  showProblems(picture.problems);
  showSteps(picture.steps);
  chart.update(picture.chart);
  if (picture.cycle_s !== cycle) {
    cycle = picture.cycle_s;
    document.body.dispatchEvent(new Event("cycle"));
  }
}

function drawSupply(root) {
  for (const box of root.querySelectorAll("[data-supply]")) {
    if (!box.hasChildNodes()) new SupplyChart(box, JSON.parse(box.dataset.supply));
  }
}

function put(place, text) {
  if (place.textContent.trim() === text) return; // an unchanged text is not announced again
  place.replaceChildren(text === "unknown" ? make("span", "unknown", text) : text);
}

function showCards(cards) {
  document.querySelectorAll("[data-card]").forEach((place, nth) => {
    const card = cards[nth];
    place.classList.toggle("alarm", card.alarm);
    put(place.querySelector("h2"), card.label);
    put(place.querySelector(".big"), card.value);
    put(place.querySelector(".note"), card.note);
  });
}

function showStates(states) {
  const all = states.reduce((sum, state) => sum + state.count, 0);
  for (const state of states) {
    const row = document.querySelector(`[data-state="${state.key}"]`);
    row.classList.toggle("none", state.count === 0);
    row.classList.toggle("trouble", state.trouble && state.count > 0);
    const bar = row.querySelector("progress");
    bar.max = Math.max(all, 1);
    bar.value = state.count;
    row.querySelector("[data-count]").textContent = state.count.toLocaleString("en-US").replaceAll(",", "\u202f");
  }
}

function showProblems(problems) {
  const body = document.querySelector("[data-problems] tbody");
  const rows = problems.map((one) => {
    const link = make("a", "", one.site);
    link.href = `/operator/fleet?search=${encodeURIComponent(one.site)}`;
    const row = make("tr");
    row.append(
      cell("Site", link, " ", make("span", "muted", one.name)),
      cell("State", one.state),
      cell("Why", one.reason),
      cell("Last reading", one.age),
    );
    row.children[1].className = "bad";
    return row;
  });
  if (rows.length === 0) {
    const none = make("td", "", "None: every enrolled site is as it should be.");
    none.colSpan = 4;
    const row = make("tr", "empty");
    row.append(none);
    rows.push(row);
  }
  replace(body, rows);
}

function showSteps(steps) {
  const items = steps.map((step) => {
    const words = make("span", "", step.what);
    if (step.why) words.append(": ", make("span", "muted", step.why));
    const item = make("li");
    item.append(make("time", "", step.at), " ", words);
    return item;
  });
  if (items.length) replace(document.querySelector("[data-steps]"), items);
}

function replace(parent, children) {
  const fresh = document.createElement(parent.tagName);
  fresh.append(...children);
  if (fresh.textContent !== parent.textContent.replace(/\s+/g, " ").trim()) parent.replaceChildren(...children);
}

function cell(label, ...content) {
  const place = make("td");
  place.dataset.label = label;
  place.append(...content);
  return place;
}

function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}
