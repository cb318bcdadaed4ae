// Target, plan and metered power over the event. Steps, because each value holds for a whole control cycle.
import uPlot from "uplot";

const stepped = uPlot.paths.stepped({ align: 1 });
const style = getComputedStyle(document.documentElement);
const colour = (name) => style.getPropertyValue(name).trim();

export class EventChart {
  constructor(box, data) {
    this.box = box;
    this.data = data;
    this.plot = new uPlot(this.options(), this.columns(), box);
    this.readOut();
    box.addEventListener("mouseleave", () => this.readOut());
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(box);
  }

  update(data) {
    const same = data.at_s.length === this.data.at_s.length;
    this.data = data;
    this.plot.setData(this.columns(), same);
    if (!same) this.plot.setScale("x", { min: data.at_s[0], max: data.at_s.at(-1) });
    this.plot.redraw();
    if (this.plot.cursor.idx == null) this.readOut();
  }

  // With no pointer on the chart its legend tells the last metered step.
  readOut() {
    const last = this.data.metered_kw.findLastIndex((value) => value != null);
    this.plot.setLegend({ idx: last < 0 ? 0 : last });
  }

  columns() {
    return [this.data.at_s, this.data.target_kw, this.data.planned_kw, this.data.metered_kw];
  }

  size() {
    const width = Math.max(260, Math.floor(this.box.clientWidth));
    return { width, height: width < 500 ? 240 : 400 };
  }

  options() {
    const grid = { stroke: colour("--line"), width: 1 };
    const font = "13px system-ui, sans-serif";
    const muted = colour("--muted");
    return {
      ...this.size(),
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), this.data.zone),
      cursor: { points: { show: false }, drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [Math.min(0, low), Math.max(1, high) * 1.08] } },
      axes: [
        { stroke: muted, grid, ticks: grid, font, values: (_, splits) => splits.map((at) => this.hour(at)) },
        { stroke: muted, grid, ticks: grid, font, size: 58, label: "kW", labelSize: 18, labelFont: font },
      ],
      series: [
        { label: "Time", value: (_, at) => (at == null ? "–" : this.hour(at)) },
        { label: "Target", stroke: colour("--ink"), width: 2, dash: [6, 4], paths: stepped, value: kw, points: { show: false } },
        { label: "Planned", stroke: colour("--muted"), width: 1.5, paths: stepped, value: kw, points: { show: false } },
        {
          label: "Metered",
          stroke: colour("--accent"),
          fill: colour("--accent-wash"),
          width: 2.5,
          paths: stepped,
          value: kw,
          points: { show: false },
        },
      ],
      hooks: { draw: [(plot) => this.drawNow(plot)] },
    };
  }

  hour(seconds) {
    return new Date(seconds * 1000).toLocaleTimeString("en-GB", {
      hour: "2-digit",
      minute: "2-digit",
      timeZone: this.data.zone,
    });
  }

  drawNow(plot) {
    const { now_s: now, at_s: at } = this.data;
    if (now < at[0] || now > at.at(-1)) return;
    const x = Math.round(plot.valToPos(now, "x", true));
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = colour("--muted");
    ctx.setLineDash([2, 3]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.restore();
  }
}

function kw(_, value) {
  return value == null ? "–" : `${value.toFixed(1)} kW`;
}
