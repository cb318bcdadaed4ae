"""The four big numbers of an event, which are other ones before, during and after it. Called by `live_page`."""

from typing import TypedDict

from vpp.domain.commitment import CommitmentState
from vpp.portal.event_view import EventView
from vpp.portal.render import UNKNOWN, age, energy, number, percent, power
from vpp.portal.render import method as spoken
from vpp.portal.site_state import TROUBLE

SHORT = 0.95
"""Below this share of what is owed a number is shown in red."""
_OVER = frozenset({CommitmentState.RELEASING, CommitmentState.MEASURING, CommitmentState.SETTLED})


class Card(TypedDict):
    """A big number with what it is, a line below it, and whether it is cause for alarm."""

    label: str
    value: str
    note: str
    alarm: bool


def cards(view: EventView, method: str | None) -> list[Card]:
    """Return the four cards; `method` is how the programme counts delivery."""
    if view.event.state is CommitmentState.ACTIVE:
        return _running(view)
    if view.event.state in _OVER:
        return _over(view, method)
    return _before(view)


def _before(view: EventView) -> list[Card]:
    event = view.event
    enrolled = sum(view.states.values())
    trouble = sum(count for state, count in view.states.items() if state in TROUBLE)
    wait_s = (event.start_at - view.at).total_seconds()
    dead = event.state in (CommitmentState.DECLINED, CommitmentState.CANCELLED)
    start = "will not run" if dead else age(wait_s) if wait_s > 0 else "now"
    return [
        _card("Highest target", power(event.highest_target_kw), "to be delivered toward the grid"),
        _card("Owed in all", energy(event.committed_kwh)),
        _card("Sites ready", f"{number(enrolled - trouble)} of {number(enrolled)}", "enrolled in this programme"),
        _card("Starts in", start, "we opted out" if event.opt_in is False else ""),
    ]


def _running(view: EventView) -> list[Card]:
    metered, fraction = view.metered_now_kw, view.forecast_fraction
    silent = view.on_duty - view.heard
    heard = (
        f"{number(view.heard)} of {number(view.on_duty)} sites heard" if view.on_duty else "no site under command yet"
    )
    owed = energy(view.event.committed_kwh)
    return [
        _card("Target now", power(view.target_kw), "to be delivered toward the grid"),
        _card(
            "Delivered now",
            power(metered),
            f"{heard}; {number(silent)} not counted" if silent else heard,
            alarm=metered is None or metered < SHORT * view.target_kw,
        ),
        _card(
            "Forecast to the end",
            "no plan yet" if view.forecast_kwh is None else percent(fraction, 1),
            f"owed: {owed}" if view.forecast_kwh is None else f"{energy(view.forecast_kwh)} of {owed}",
            alarm=fraction is not None and fraction < SHORT,
        ),
        _metered(view, "Metered so far"),
    ]


def _over(view: EventView, method: str | None) -> list[Card]:
    rows = [row for row in view.deliveries if row.method == method]
    told = [float(row.delivered_kwh) for row in rows if row.delivered_kwh is not None]
    owed_kwh = float(sum(row.committed_kwh for row in rows)) if rows else view.event.committed_kwh
    share = sum(told) / owed_kwh if told and owed_kwh > 0 else None
    missing = len(rows) - len(told)
    by = f"measured by {spoken(method)}" + (f"; {number(missing)} intervals unknown" if missing else "")
    waiting = "not measured yet"
    return [
        _card("Owed", energy(owed_kwh), "over the whole event"),
        _card("Delivered", energy(sum(told)) if told else waiting, by if rows else "", alarm=bool(rows) and not told),
        _card(
            "Share delivered",
            percent(share, 1) if rows else waiting,
            alarm=bool(rows) and (share is None or share < SHORT),
        ),
        _metered(view, "By battery meters"),
    ]


def _metered(view: EventView, label: str) -> Card:
    if view.metered_kwh is None:
        return _card(label, UNKNOWN if view.handbacks.touched else "nothing", alarm=bool(view.handbacks.touched))
    return _card(label, energy(view.metered_kwh), f"registers of {number(view.metered_sites)} sites")


def _card(label: str, value: str, note: str = "", *, alarm: bool = False) -> Card:
    return {"label": label, "value": value, "note": note, "alarm": alarm}
