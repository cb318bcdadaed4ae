// The same words for numbers as vpp/portal/render.py.
export function number(value, digits) {
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })
    .replaceAll(",", "\u202f")
    .replace("-", "\u2212");
}

export function energy(energyKwh) {
  const size = Math.abs(energyKwh);
  return `${number(energyKwh, size < 10 ? 2 : size < 100 ? 1 : 0)} kWh`;
}
