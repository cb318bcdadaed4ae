// The form of an event: signals and their intervals are added and removed, and only what a signal has is asked for.
const MOST_ROWS = 300;

export function wireCompose(root) {
  const form = root.matches?.("[data-compose]") ? root : root.querySelector("[data-compose]");
  if (!form || form.dataset.wired) return;
  form.dataset.wired = "yes";
  const details = JSON.parse(form.dataset.details);
  form.addEventListener("change", (event) => {
    if (event.target.matches("[data-type]")) ask(event.target.closest("[data-signal]"), details, true);
  });
  form.addEventListener("paste", pasteColumn);
  form.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    const act = button && Object.entries(ACTS).find(([name]) => name in button.dataset)?.[1];
    if (!act) return;
    event.preventDefault();
    act(button, form, details);
  });
  for (const signal of signalsOf(form)) {
    ask(signal, details, false);
    showRemovers(signal);
  }
}

const ACTS = {
  add: (button) => addRow(button.closest("[data-signal]")).querySelector("[name=value]").focus(),
  remove: (button) => removeRow(button.closest("[data-row]")),
  addSignal: (button, form, details) => addSignal(form, details),
  drop: (button, form) => removeSignal(button.closest("[data-signal]"), form),
};

function signalsOf(form) {
  return [...form.querySelectorAll("[data-signal]")];
}

function ask(signal, details, chosen) {
  const detail = details[signal.querySelector("[data-type]").value];
  signal.querySelector("[data-hint]").textContent = detail.hint;
  for (const part of signal.querySelectorAll("[data-needs]")) {
    const need = detail[part.dataset.needs];
    part.hidden = Array.isArray(need) ? need.length === 0 : !need;
  }
  const unit = signal.querySelector("[name=unit]");
  const allowed = detail.units.map(([value]) => value);
  for (const option of unit.options) {
    const fits = option.value === "" || allowed.includes(option.value);
    option.hidden = !fits;
    option.disabled = !fits;
  }
  const usual = allowed[0] ?? "";
  if (chosen || (unit.value !== "" && !allowed.includes(unit.value))) unit.value = usual;
}

// A further signal has the intervals of the one above; what they are worth is still to be typed.
function addSignal(form, details) {
  const before = signalsOf(form).at(-1);
  const fresh = before.cloneNode(true);
  for (const wrong of fresh.querySelectorAll(".bad")) wrong.remove();
  for (const marked of [fresh, ...fresh.querySelectorAll("[aria-invalid]")]) {
    marked.removeAttribute("aria-invalid");
    marked.removeAttribute("aria-describedby");
  }
  for (const input of fresh.querySelectorAll("[name=series_id], [name=name], [name=currency], [name=value]")) input.value = "";
  form.dataset.added = Number(form.dataset.added ?? 0) + 1;
  for (const field of fresh.querySelectorAll("[id]")) {
    const id = `${field.name}-added-${form.dataset.added}`;
    fresh.querySelector(`label[for="${field.id}"]`).htmlFor = id;
    field.id = id;
  }
  fresh.querySelector("[data-type]").selectedIndex = 0;
  before.after(fresh);
  ask(fresh, details, true);
  number(form);
  fresh.querySelector("[data-type]").focus();
}

function removeSignal(signal, form) {
  signal.remove();
  number(form);
  form.querySelector("[data-add-signal]").focus();
}

function number(form) {
  const signals = signalsOf(form);
  signals.forEach((signal, index) => {
    signal.querySelector("[data-number]").textContent = index + 1;
    signal.querySelector("[data-drop]").hidden = signals.length < 2;
  });
  form.querySelector("[data-add-signal]").hidden = signals.length >= Number(form.querySelector("[data-signals]").dataset.most);
}

function addRow(signal) {
  const last = signal.querySelector("[data-rows]").lastElementChild;
  const fresh = last.cloneNode(true);
  fresh.querySelector("[name=minutes]").value = last.querySelector("[name=minutes]").value;
  fresh.querySelector("[name=value]").value = "";
  last.after(fresh);
  showRemovers(signal);
  return fresh;
}

// A column of a spreadsheet fills one interval a line from where it is pasted, each as long as the one above.
function pasteColumn(event) {
  const row = event.target.closest("[data-row]");
  const lines = (event.clipboardData?.getData("text") ?? "").trim().split(/\r?\n/).slice(0, MOST_ROWS);
  if (!row || !event.target.matches("[name=value]") || lines.length < 2) return;
  event.preventDefault();
  const signal = row.closest("[data-signal]");
  const rows = () => [...signal.querySelectorAll("[data-row]")];
  const first = rows().indexOf(row);
  let minutes = row.querySelector("[name=minutes]").value || rows()[first - 1]?.querySelector("[name=minutes]").value || "";
  lines.forEach((line, index) => {
    if (!rows()[first + index]) addRow(signal);
    const place = rows()[first + index];
    const length = place.querySelector("[name=minutes]");
    length.value ||= minutes;
    minutes = length.value;
    place.querySelector("[name=value]").value = line.trim();
  });
}

function removeRow(row) {
  const signal = row.closest("[data-signal]");
  row.remove();
  showRemovers(signal);
  signal.querySelector("[data-add]").focus();
}

function showRemovers(signal) {
  const buttons = signal.querySelectorAll("[data-remove]");
  for (const button of buttons) button.hidden = buttons.length < 2;
}
