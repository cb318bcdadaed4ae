"""Draw the allocator's pictures for the docs: a fleet's supply curve, and one site's day with and without an event.

Run by hand when the allocator changes: `uv run python scripts/draw_allocation_pictures.py`. What is drawn is solved
here, from a fleet made of a seed. The pictures bring their own background, a dark one where the reader's is dark.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from vpp.allocation import Allocation, Problem, solve, supply_curve
from vpp.domain.fleet import Floats

SEED, SITES, STEPS, STEP_H = 11, 40, 96, 0.25
EVENT = slice(64, 80)
"""16:00 to 20:00."""
STYLE = """
  svg { --ink: #16202a; --muted: #556270; --line: #dde3e8; --card: #ffffff; --a: #0b6460; --wash: #0b646026;
        --b: #b4540a; --event: #f3ead8; --soft: #8b98a5; }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e8eef3; --muted: #a3b1bd; --line: #33414d; --card: #151d25; --a: #4fc3b5; --wash: #4fc3b533;
          --b: #f0a35e; --event: #2c2a22; --soft: #6f7f8d; }
  }
  text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; fill: var(--muted); }
  .title { font-size: 16px; font-weight: 650; fill: var(--ink); }
  .name { font-weight: 600; fill: var(--ink); }
  .told { font-weight: 600; fill: var(--ink); }
  .card { fill: var(--card); stroke: var(--line); }
  .grid { stroke: var(--line); fill: none; }
  .event { fill: var(--event); }
  .a { stroke: var(--a); fill: none; stroke-width: 2.4; }
  .b { stroke: var(--b); fill: none; stroke-width: 2.2; }
  .soft { stroke: var(--soft); fill: none; stroke-width: 1.6; }
  .limit { stroke: var(--ink); fill: none; stroke-width: 1.4; stroke-dasharray: 5 4; }
  .wash { fill: var(--wash); }
  .dot { fill: var(--ink); }
  .ta { fill: var(--a); font-weight: 600; } .tb { fill: var(--b); font-weight: 600; } .ts { fill: var(--soft); }
"""


@dataclass(slots=True)
class Picture:
    """An SVG that grows by its elements."""

    width: int
    height: int
    title: str
    told: str
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """Put words at a point."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>')

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Draw a line through points."""
        path = " L ".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path d="M {path}" class="{kind}" stroke-linejoin="round"/>')

    def area(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Fill an area."""
        path = " L ".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path d="M {path} Z" class="{kind}"/>')

    def svg(self) -> str:
        """The file's text."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" aria-labelledby="title desc">'
        )
        about = f'<title id="title">{escape(self.title)}</title>\n<desc id="desc">{escape(self.told)}</desc>'
        card = f'<rect x="1" y="1" width="{self.width - 2}" height="{self.height - 2}" rx="14" class="card"/>'
        return "\n".join([head, about, f"<style>{STYLE}</style>", card, *self.parts, "</svg>", ""])


@dataclass(frozen=True, slots=True)
class Panel:
    """A frame of a picture with its scales; x and y as the picture counts them, from the left and the top."""

    picture: Picture
    left: float
    top: float
    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A value's point, held inside the frame."""
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        across = min(max((x - x0) / (x1 - x0), 0.0), 1.0)
        up = min(max((y - y0) / (y1 - y0), 0.0), 1.0)
        return self.left + across * self.width, self.top + (1.0 - up) * self.height

    def frame(self, x_ticks: dict[float, str], y_ticks: dict[float, str]) -> None:
        """Draw grid and ticks."""
        for y, words in y_ticks.items():
            here = self.at(self.x_range[0], y)
            self.picture.line([here, self.at(self.x_range[1], y)], "grid")
            self.picture.text(here[0] - 8, here[1] + 4, words, anchor="end")
        for x, words in x_ticks.items():
            here = self.at(x, self.y_range[0])
            self.picture.line([here, (here[0], here[1] + 5)], "grid")
            self.picture.text(here[0], here[1] + 20, words, anchor="middle")

    def steps(self, edges: Floats, values: Floats, kind: str) -> None:
        """Draw values that each hold from one edge to the next."""
        points = []
        for k, value in enumerate(values):
            points += [self.at(float(edges[k]), float(value)), self.at(float(edges[k + 1]), float(value))]
        self.picture.line(points, kind)


CALL = slice(70, 72)
"""17:30 to 18:00: so short that energy cannot be had from another step of the event at the same price."""


def a_fleet(event: slice | None, share: float = 0.8) -> Problem:
    """Forty sites through a day of 15-minute steps: shops and homes, PV, demand charges; perhaps an event.

    An event asks for this share of the energy, or of the power where power is what is short.
    """
    r = np.random.default_rng(SEED)
    hours = np.arange(STEPS) * STEP_H
    power = r.choice([5.0, 10.0, 30.0, 60.0], SITES, p=[0.35, 0.25, 0.25, 0.15])
    top = r.normal(15.0, 2.5, SITES)[:, None]
    load = power[:, None] * r.uniform(0.5, 1.6, (SITES, 1)) * (0.3 + 0.7 * np.exp(-0.5 * ((hours - top) / 3.0) ** 2))
    load *= np.exp(r.normal(0.0, 0.08, load.shape))
    sun = np.clip(np.cos((hours - 13.0) / 12.0 * np.pi * 1.1), 0.0, None) ** 1.3
    net = load - np.where(r.random(SITES) < 0.5, power * r.uniform(0.3, 1.2, SITES), 0.0)[:, None] * sun
    price = np.where((hours >= 16) & (hours < 21), 0.33, np.where(hours >= 7, 0.28, 0.24))
    price = price * r.uniform(0.8, 1.2, (SITES, 1))
    capacity = power * r.choice([1.0, 2.0, 3.0], SITES)
    floor = r.uniform(0.1, 0.3, SITES)
    demand = np.where(power >= 10.0, r.choice([12.0, 18.0, 25.0], SITES), 0.0)
    committed = np.zeros(STEPS, dtype=bool)
    if event is not None:
        committed[event] = True
    hours_long = max(float(committed.sum()) * STEP_H, STEP_H)
    owed = share * float(np.minimum((0.9 - floor) * capacity / hours_long, 0.8 * power).sum())
    return Problem.build(
        step_h=STEP_H, net_load_kw=net, max_charge_kw=power, max_discharge_kw=power, capacity_kwh=capacity,
        soc=r.uniform(0.5, 0.9, SITES), soc_floor=floor, soc_ceiling=np.full(SITES, 0.97),
        charge_efficiency=np.full(SITES, 0.94), discharge_efficiency=np.full(SITES, 0.94),
        export_limit_kw=np.where(r.random(SITES) < 0.35, 0.0, power), import_limit_kw=4.0 * power,
        import_price_per_kwh=price, export_price_per_kwh=0.05, demand_window=np.ones((1, STEPS), dtype=bool),
        demand_price_per_kw=demand[:, None], peak_so_far_kw=(net.max(axis=1) * r.uniform(0.72, 0.9, SITES))[:, None],
        wear_price_per_kwh=r.uniform(0.03, 0.07, SITES), terminal_value_per_kwh=r.uniform(0.24, 0.4, SITES),
        commitment_kw=np.where(committed, owed * (1.0 + 0.2 * np.sin(hours)), 0.0), committed=committed,
        shortfall_price_per_kwh=5.0,
    )  # fmt: skip


def draw_supply(problem: Problem, answer: Allocation, step: int) -> Picture:
    """The fleet's supply in one step of the event."""
    curve = supply_curve(problem, answer, step)
    high = float(np.ceil(max(0.5, 1.7 * curve.paid_per_kwh) * 10) / 10)
    last = float(curve.power_kw[curve.price_per_kwh <= high][-1])
    picture = Picture(
        860, 440, "A fleet's supply in one step of an event",
        "Power in kW that the fleet gives at up to a price per kWh: a staircase, low where batteries cover their own "
        f"site's load and high where they export; {curve.delivered_kw:.0f} kW at {curve.paid_per_kwh:.2f} $/kWh, "
        "which is what the event asks for.",
    )  # fmt: skip
    picture.text(
        28, 36, f"What {problem.sites} sites would give between {_clock(step)} and {_clock(step + 1)}", "title"
    )
    panel = Panel(picture, 74, 66, 750, 300, (min(0.0, -curve.charging_kw), last), (-0.2, high))
    ticks = {float(kw): f"{kw:.0f}" for kw in np.arange(0, last, 50 if last < 500 else 100)}
    panel.frame(ticks, {y: f"{y:.2f}" for y in np.arange(-0.2, high + 1e-9, 0.2)})
    picture.text(74, 60, "$ per kWh")
    picture.text(824, 408, "kW, cumulative", anchor="end")
    edges = np.concatenate(([min(0.0, -curve.charging_kw)], curve.power_kw))
    shown = curve.price_per_kwh <= high
    panel.steps(edges[: int(shown.sum()) + 1], curve.price_per_kwh[shown], "a")
    given = curve.price_per_kwh <= curve.paid_per_kwh + 1e-9
    corners = []
    for k in np.flatnonzero(given):
        price = float(curve.price_per_kwh[k])
        corners += [panel.at(float(edges[k]), price), panel.at(min(float(edges[k + 1]), curve.delivered_kw), price)]
    picture.area([panel.at(edges[0], 0.0), *corners, panel.at(curve.delivered_kw, 0.0)], "wash")
    stand = panel.at(curve.delivered_kw, curve.paid_per_kwh)
    picture.line([panel.at(edges[0], curve.paid_per_kwh), stand, panel.at(curve.delivered_kw, 0.0)], "limit")
    picture.parts.append(f'<circle cx="{stand[0]:.1f}" cy="{stand[1]:.1f}" r="5" class="dot"/>')
    words = f"{curve.delivered_kw:.0f} kW owed: the fleet pays {curve.paid_per_kwh:.2f} $/kWh"
    picture.text(stand[0] - 10, stand[1] - 12, words, "told", "end")
    # the largest step of the curve is where the sites' own load ends and export begins
    turn = int(np.argmax(np.diff(np.clip(curve.price_per_kwh[shown], 0.0, None))))
    own, out = panel.at(float(edges[turn + 1]) / 2, 0.0), panel.at(float(edges[turn + 1]), 0.0)
    picture.text(own[0], own[1] + 18, "covers the sites' own load, which saves the tariff's price", "ta", "middle")
    picture.text(out[0] + 8, out[1] + 18, "is exported, for which", "tb")
    picture.text(out[0] + 8, out[1] + 34, "the tariff pays less", "tb")
    return picture


def draw_day(problem: Problem, with_event: Allocation, without: Allocation, site: int) -> Picture:
    """One site's day: import, battery, charge and price, with and without the event."""
    edges: Floats = np.arange(STEPS + 1, dtype=np.float64) * STEP_H
    net, peak = problem.net_load_kw[site], float(problem.peak_so_far_kw[site, 0])
    power = [answer.battery_kw[site] for answer in (with_event, without)]
    picture = Picture(
        860, 770, "One site's day with and without the event",
        "Four charts over 24 hours. Import stays at or below the demand peak so far in both cases; with the event the "
        "battery gives between 16 and 20 h and charges before; its charge stays above the owner's reserve.",
    )  # fmt: skip
    picture.text(28, 36, "One site's day, with and without the event", "title")
    for x, words, kind, of in ((520, "with the event", "a", "ta"), (680, "without", "b", "tb")):
        picture.line([(x, 31), (x + 26, 31)], kind)
        picture.text(x + 34, 36, words, of)
    low, high = min(0.0, float((net - np.maximum(*power)).min())), 1.12 * max(peak, float(net.max()))
    reach = 1.1 * max(float(np.abs(one).max()) for one in power)
    paid = with_event.marginal_price_per_kwh
    rows = [
        ("Net load at the meter, kW", 60, 190, (low, high)),
        ("Battery, kW: giving up, charging down", 292, 120, (-reach, reach)),
        ("Charge", 454, 110, (0.0, 1.0)),
        ("Price of a kWh, $", 606, 110, (0.0, 1.15 * float((paid + problem.import_price_per_kwh[site]).max()))),
    ]
    panels = []
    for name, top, height, y_range in rows:
        panel = Panel(picture, 74, top + 18, 750, height, (0.0, 24.0), y_range)
        begin, end = EVENT.start * STEP_H, EVENT.stop * STEP_H
        picture.area([panel.at(begin, y_range[0]), panel.at(begin, y_range[1]), panel.at(end, y_range[1]),
                      panel.at(end, y_range[0])], "event")  # fmt: skip
        last = top == rows[-1][1]
        panel.frame({h: f"{h:02.0f}:00" for h in range(0, 25, 4)} if last else {}, _ticks(*y_range))
        picture.text(74, top + 8, name, "name")
        panels.append(panel)
    meter, battery, charge, price = panels
    picture.text(meter.at(18.0, 0)[0], 86 + 8, "event", "ts", "middle")
    meter.steps(edges, net, "soft")
    for one, kind in ((power[1], "b"), (power[0], "a")):
        meter.steps(edges, net - one, kind)
        battery.steps(edges, one, kind)
    _level(meter, peak, f"demand peak so far, {peak:.0f} kW")
    picture.text(meter.at(9.0, 0)[0], meter.at(0, float(net[30:44].max()))[1] - 6, "without a battery", "ts", "middle")
    for answer, kind in ((without, "b"), (with_event, "a")):
        charge.picture.line([charge.at(float(x), float(y)) for x, y in zip(edges, answer.soc[site], strict=True)], kind)
    _level(charge, float(problem.soc_floor[site]), "owner's reserve")
    tariff = problem.import_price_per_kwh[site]
    price.steps(edges, tariff, "b")
    price.steps(edges[EVENT.start : EVENT.stop + 1], (tariff + paid)[EVENT], "a")
    picture.text(
        price.at(15.8, 0)[0], price.at(0, float((tariff + paid)[EVENT].max()))[1] + 4, "tariff and event", "ta", "end"
    )
    picture.text(price.at(0.3, 0)[0], price.at(0, float(tariff[0]))[1] - 8, "tariff", "tb")
    return picture


def _level(panel: Panel, value: float, words: str) -> None:
    panel.picture.line([panel.at(0.0, value), panel.at(24.0, value)], "limit")
    panel.picture.text(panel.at(0.3, value)[0], panel.at(0.0, value)[1] - 6, words, "told")


def _ticks(low: float, high: float) -> dict[float, str]:
    """Four or so round numbers between two values."""
    raw = (high - low) / 4
    size = 10.0 ** np.floor(np.log10(raw))
    step = size * min((1, 2, 2.5, 5, 10), key=lambda one: abs(one * size - raw))
    digits = max(0, int(np.ceil(-np.log10(step) - 1e-9)) + (1 if step / size == 2.5 else 0))
    return {float(y): f"{y:.{digits}f}" for y in np.arange(np.ceil(low / step) * step, high + 1e-9, step)}


def _clock(step: int) -> str:
    return f"{int(step * STEP_H):02d}:{round(step * STEP_H % 1 * 60):02d}"


def telling_site(problem: Problem, with_event: Allocation, without: Allocation) -> int:
    """The site with a demand charge whose day the event changes most, for its size."""
    changed = np.abs(with_event.battery_kw - without.battery_kw).sum(axis=1) * STEP_H / problem.capacity_kwh
    return int(np.argmax(np.where(problem.demand_price_per_kw[:, 0] > 0, changed, -1.0)))


def main() -> None:
    """Solve and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    out: Path = parser.parse_args().out
    evening, call = a_fleet(EVENT), a_fleet(CALL, share=1.15)
    answer, without = solve(evening), solve(a_fleet(None))
    site = telling_site(evening, answer, without)
    drawn = {"supply-curve.svg": draw_supply(call, solve(call), CALL.start),
             "site-day.svg": draw_day(evening, answer, without, site)}  # fmt: skip
    for name, picture in drawn.items():
        (out / name).write_text(picture.svg(), encoding="utf-8")
        print(f"{out / name}: {picture.told}")  # noqa: T201 - a script for people


if __name__ == "__main__":
    main()
