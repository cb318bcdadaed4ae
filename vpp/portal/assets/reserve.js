// The reserve slider: shows what a choice means while it moves; saving is htmx's PATCH, and what is
// shown afterwards is what the server read back.
import { energy } from "./words.js";

export function wireReserves(root) {
  const forms = root.matches?.("[data-reserve]") ? [root] : root.querySelectorAll("[data-reserve]");
  for (const form of forms) {
    if (form.dataset.wired) continue;
    form.dataset.wired = "yes";
    const slider = form.querySelector("input[type=range]");
    slider.addEventListener("input", () => preview(form, Number(slider.value)));
    preview(form, Number(slider.value));
  }
}

function preview(form, percent) {
  const capacityKwh = Number(form.dataset.capacityKwh);
  const changed = percent !== Number(form.dataset.saved);
  form.querySelector("[data-percent]").textContent = `${percent}\u202f%`;
  form.querySelector("[data-kept]").textContent = energy((capacityKwh * percent) / 100);
  form.querySelector("[data-free]").textContent = energy((capacityKwh * (100 - percent)) / 100);
  form.querySelector("input[type=range]").setAttribute("aria-valuetext", `${percent} percent`);
  const button = form.querySelector("button");
  button.disabled = !changed;
  if (changed) form.querySelector("[data-saved-note]").textContent = "Not saved yet";
}
