// The same words for numbers as vpp/portal/render.py.
export function number(value, digits) {
  // Not toLocaleString: it rounds 4.725 up where Python, by the number's true value, rounds down.
  const [whole, part] = value.toFixed(digits).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, "\u202f").replace("-", "\u2212");
  return part ? `${grouped}.${part}` : grouped;
}

export function energy(energyKwh) {
  const size = Math.abs(energyKwh);
  return `${number(energyKwh, size < 10 ? 2 : size < 100 ? 1 : 0)} kWh`;
}
