// The fleet's supply in one control cycle: price against cumulative power, and where the cycle stands on it.
import uPlot from "uplot";

const stepped = uPlot.paths.stepped({ align: -1 });
const style = getComputedStyle(document.documentElement);
const colour = (name) => style.getPropertyValue(name).trim();

export class SupplyChart {
  constructor(box, data) {
    this.box = box;
    this.data = data;
    this.plot = new uPlot(this.options(), this.columns(), box);
    box.addEventListener("mouseleave", () => this.readOut(this.plot));
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(box);
  }

  columns() {
    const { kw, price } = this.data;
    // each price holds for the kW up to its own; the first begins at nothing
    return [[Math.min(0, kw[0] ?? 0), ...kw], [price[0] ?? null, ...price]];
  }

  size() {
    const width = Math.max(240, Math.floor(this.box.clientWidth));
    return { width, height: width < 500 ? 260 : 370 };
  }

  // With no pointer on the chart its legend tells where the cycle stands.
  readOut(plot) {
    const at = this.columns()[0].findIndex((kw) => kw >= this.data.delivered_kw - 1e-3);
    plot.setLegend({ idx: at < 0 ? this.data.kw.length : at });
  }

  // A few kW that hold a demand peak are worth a hundred times the rest: they would flatten the picture.
  range() {
    const { paid, price } = this.data;
    const inside = price.filter((one) => Math.abs(one - paid) <= Math.max(0.25, 0.6 * Math.abs(paid)));
    const low = Math.min(0, paid, ...inside);
    const high = Math.max(paid, ...inside, low + 0.1);
    return [low - 0.04 * (high - low), high + 0.12 * (high - low)];
  }

  options() {
    const grid = { stroke: colour("--line"), width: 1 };
    const font = "13px system-ui, sans-serif";
    const muted = colour("--muted");
    return {
      ...this.size(),
      cursor: { points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: false }, y: { range: () => this.range() } },
      axes: [
        { stroke: muted, grid, ticks: grid, font, label: "kW", labelSize: 18, labelFont: font },
        { stroke: muted, grid, ticks: grid, font, size: 58, label: "$ per kWh", labelSize: 18, labelFont: font },
      ],
      series: [
        { label: "Up to", value: (_, kw) => (kw == null ? "–" : `${kw.toFixed(0)} kW`) },
        {
          label: "Price",
          stroke: colour("--accent"),
          fill: colour("--accent-wash"),
          width: 2.5,
          paths: stepped,
          value: (_, price) => (price == null ? "–" : `${price.toFixed(3)} $/kWh`),
          points: { show: false },
        },
      ],
      hooks: { ready: [(plot) => this.readOut(plot)], draw: [(plot) => this.drawStand(plot)] },
    };
  }

  drawStand(plot) {
    const { ctx, bbox } = plot;
    const x = Math.round(plot.valToPos(this.data.delivered_kw, "x", true));
    const y = Math.round(plot.valToPos(this.data.paid, "y", true));
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.strokeStyle = colour("--ink");
    ctx.setLineDash([5, 4]);
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top + bbox.height);
    ctx.lineTo(x, y);
    ctx.lineTo(bbox.left, y);
    ctx.stroke();
    ctx.fillStyle = colour("--ink");
    ctx.beginPath();
    ctx.arc(x, y, 4.5 * devicePixelRatio, 0, 2 * Math.PI);
    ctx.fill();
    ctx.restore();
  }
}
