// The form of an event: intervals are added and removed, and only what the chosen signal has is asked for.
const MOST_ROWS = 300;

export function wireCompose(root) {
  const form = root.matches?.("[data-compose]") ? root : root.querySelector("[data-compose]");
  if (!form || form.dataset.wired) return;
  form.dataset.wired = "yes";
  const details = JSON.parse(form.dataset.details);
  const type = form.querySelector("#type");
  type.addEventListener("change", () => ask(form, details[type.value], true));
  ask(form, details[type.value], false);
  form.querySelector("[data-add]").addEventListener("click", (event) => {
    event.preventDefault();
    addRow(form);
  });
  form.addEventListener("paste", (event) => pasteColumn(form, event));
  form.addEventListener("click", (event) => {
    const button = event.target.closest("[data-remove]");
    if (button) removeRow(form, button.closest("[data-row]"));
  });
  showRemovers(form);
}

function ask(form, detail, chosen) {
  form.querySelector("[data-hint]").textContent = detail.hint;
  for (const part of form.querySelectorAll("[data-needs]")) {
    const need = detail[part.dataset.needs];
    part.hidden = Array.isArray(need) ? need.length === 0 : !need;
  }
  const unit = form.querySelector("#unit");
  const allowed = detail.units.map(([value]) => value);
  for (const option of unit.options) {
    const fits = option.value === "" || allowed.includes(option.value);
    option.hidden = !fits;
    option.disabled = !fits;
  }
  const usual = allowed[0] ?? "";
  if (chosen || (unit.value !== "" && !allowed.includes(unit.value))) unit.value = usual;
}

function addRow(form) {
  const rows = form.querySelector("[data-rows]");
  const last = rows.lastElementChild;
  const fresh = last.cloneNode(true);
  fresh.querySelector("[name=minutes]").value = last.querySelector("[name=minutes]").value;
  fresh.querySelector("[name=value]").value = "";
  rows.append(fresh);
  showRemovers(form);
  fresh.querySelector("[name=value]").focus();
}

// A column of a spreadsheet fills one interval a line from where it is pasted, each as long as the one above.
function pasteColumn(form, event) {
  const row = event.target.closest("[data-row]");
  const lines = (event.clipboardData?.getData("text") ?? "").trim().split(/\r?\n/).slice(0, MOST_ROWS);
  if (!row || !event.target.matches("[name=value]") || lines.length < 2) return;
  event.preventDefault();
  const rows = () => [...form.querySelectorAll("[data-row]")];
  const first = rows().indexOf(row);
  let minutes = row.querySelector("[name=minutes]").value || rows()[first - 1]?.querySelector("[name=minutes]").value || "";
  lines.forEach((line, index) => {
    if (!rows()[first + index]) addRow(form);
    const place = rows()[first + index];
    const length = place.querySelector("[name=minutes]");
    length.value ||= minutes;
    minutes = length.value;
    place.querySelector("[name=value]").value = line.trim();
  });
}

function removeRow(form, row) {
  row.remove();
  showRemovers(form);
  form.querySelector("[data-add]").focus();
}

function showRemovers(form) {
  const buttons = form.querySelectorAll("[data-remove]");
  for (const button of buttons) button.hidden = buttons.length < 2;
}
