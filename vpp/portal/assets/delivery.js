// Expected against delivered power of an event we told; loaded only where there is such a chart.
import uPlot from "uplot";

const stepped = uPlot.paths.stepped({ align: 1 });

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export class DeliveryChart {
  constructor(box, data) {
    this.box = box;
    this.data = data;
    this.plot = new uPlot(this.options(), [data.at_s, data.expected_kw, data.delivered_kw], box);
    this.readOut();
    box.addEventListener("mouseleave", () => this.readOut());
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(box);
  }

  // With no pointer on the chart its legend tells the last interval somebody reported.
  readOut() {
    const last = this.data.delivered_kw.findLastIndex((value) => value != null);
    this.plot.setLegend({ idx: last < 0 ? 0 : last });
  }

  size() {
    const width = Math.max(260, Math.floor(this.box.clientWidth));
    return { width, height: width < 500 ? 240 : 320 };
  }

  options() {
    const grid = { stroke: colour("--line"), width: 1 };
    const font = "13px system-ui, sans-serif";
    const muted = colour("--muted");
    const line = (label, stroke, more) => ({ label, stroke, width: 2, paths: stepped, value: kw, points: { show: false }, ...more });
    return {
      ...this.size(),
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), this.data.zone),
      cursor: { points: { show: false }, drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [Math.min(0, low) * 1.08, Math.max(1, high) * 1.08] } },
      axes: [
        { stroke: muted, grid, ticks: grid, font, values: (_, splits) => splits.map((at) => this.hour(at)) },
        { stroke: muted, grid, ticks: grid, font, size: 64, label: "kW", labelSize: 18, labelFont: font },
      ],
      series: [
        { label: "Time", value: (_, at) => (at == null ? "–" : this.hour(at)) },
        line("Expected", colour("--ink"), { dash: [6, 4] }),
        line("Delivered", colour("--accent"), { fill: colour("--accent-wash"), width: 2.5 }),
      ],
    };
  }

  hour(seconds) {
    const form = { hour: "2-digit", minute: "2-digit", timeZone: this.data.zone };
    return new Date(seconds * 1000).toLocaleTimeString("en-GB", form);
  }
}

function kw(_, value) {
  return value == null ? "–" : `${value.toFixed(1)} kW`;
}
