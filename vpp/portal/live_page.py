"""The live page's numbers as texts and series: what the template shows first and the stream then replaces.

Called by `operator`. Words and units are chosen here once, so that the script only puts texts in place.
"""

from dataclasses import asdict
from typing import Any

from vpp.domain.commitment import CommitmentState
from vpp.portal.event_view import EventView
from vpp.portal.live_cards import cards
from vpp.portal.render import age, local, number, power
from vpp.portal.site_state import TROUBLE, SiteState

STATE_WORDS = {
    CommitmentState.RECEIVED: "received",
    CommitmentState.DECLINED: "declined",
    CommitmentState.ACCEPTED: "accepted",
    CommitmentState.ACTIVE: "running",
    CommitmentState.RELEASING: "handing back",
    CommitmentState.MEASURING: "being measured",
    CommitmentState.SETTLED: "settled",
    CommitmentState.CANCELLED: "cancelled",
}


def picture(view: EventView, zone: str, method: str | None) -> dict[str, Any]:
    """Return the JSON-able picture of an event; `method` is how its programme counts delivery."""
    return {
        "as_of": local(view.at, zone, "%a %d %b, %H:%M:%S"),
        "cycle_s": None if view.cycle_at is None else view.cycle_at.timestamp(),
        "cards": cards(view, method),
        "text": _texts(view),
        "alarm": _alarms(view),
        "states": [
            {"key": state.value, "count": view.states.get(state, 0), "trouble": state in TROUBLE} for state in SiteState
        ],
        "problems": [
            {
                "site": one.site_id,
                "name": one.name,
                "state": one.state.value,
                "reason": one.reason,
                "age": "never" if one.age_s is None else f"{age(one.age_s)} ago",
            }
            for one in view.problems
        ],
        "steps": [
            {"at": local(step.at, zone, "%a %H:%M:%S"), "what": step.what, "why": _why(step.detail)}
            for step in view.steps
        ],
        "chart": {**asdict(view.chart), "zone": zone, "now_s": view.at.timestamp()},
    }


def _texts(view: EventView) -> dict[str, str]:
    handbacks = view.handbacks
    return {
        "state": STATE_WORDS[view.event.state] + (", stop requested" if view.event.cancel_requested else ""),
        "plan": _plan(view),
        "handback": f"{number(handbacks.verified)} of {number(handbacks.touched)}",
        "handback_note": _handback_note(view),
        "problem_note": _problem_note(view),
    }


def _alarms(view: EventView) -> dict[str, bool]:
    return {"plan": view.plan_stale, "handback": view.handbacks.overdue > 0}


def _plan(view: EventView) -> str:
    if view.event.state is not CommitmentState.ACTIVE:
        return ""
    if view.plan_age_s is None:
        return "No control cycle has run yet."
    words = f"Last control cycle began {age(view.plan_age_s)} ago."
    if view.plan_stale:
        words += " The next one is overdue."
    if view.shortfall_kw:
        words += f" It is {power(view.shortfall_kw)} short of the target."
    return words


def _handback_note(view: EventView) -> str:
    handbacks = view.handbacks
    if not handbacks.touched:
        return "no site's settings were changed"
    if handbacks.overdue:
        return f"{number(handbacks.overdue)} overdue: not yet verified to be as they were found"
    return "sites verified to be as they were found"


def _problem_note(view: EventView) -> str:
    hidden = view.problem_count - len(view.problems)
    return f"and {number(hidden)} more" if hidden else ""


def _why(detail: dict[str, Any]) -> str:
    reason = detail.get("reason") or detail.get("why") or ""
    return str(reason)[:300]
