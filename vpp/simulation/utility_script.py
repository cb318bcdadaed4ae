"""Room simulation: what a simulated utility will say and when. Called by `utility` and by the demo.

Plain data (JSON by `model_dump_json`), so that it can be handed to another process.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

NEAR = timedelta(hours=1)


class Block(BaseModel):
    """A length of time with what is asked in it: kW toward the grid, or a SIMPLE level."""

    model_config = ConfigDict(frozen=True)

    minutes: float = Field(gt=0)
    value: float = Field(ge=0)


class Change(BaseModel):
    """What the utility says anew at an instant: all blocks from the start on, or none to cancel."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    blocks: tuple[Block, ...] = ()


class ScriptedEvent(BaseModel):
    """One event with its changes in order."""

    model_config = ConfigDict(frozen=True)

    event_id: str
    market_context: str
    announce_at: AwareDatetime
    start_at: AwareDatetime
    blocks: tuple[Block, ...] = Field(min_length=1)
    signal: Literal["LOAD_DISPATCH", "SIMPLE"] = "LOAD_DISPATCH"
    start_tolerance_s: float = 0.0
    is_test: bool = False
    changes: tuple[Change, ...] = ()


class UtilityScript(BaseModel):
    """Everything a simulated utility will do. JSON by `model_dump_json` and `model_validate_json`."""

    model_config = ConfigDict(frozen=True)

    events: tuple[ScriptedEvent, ...]
    vtn_id: str = "GoldenCoastElectric"
    poll_s: float = Field(300.0, gt=0)
    report_s: float = Field(300.0, gt=0)


@dataclass(slots=True)
class PlayedEvent:
    """One event as far as it has been played: what was stated last and how it was answered."""

    script: ScriptedEvent
    modification: int = -1
    blocks: tuple[Block, ...] = ()
    cancelled: bool = False
    status: str = "none"
    stated_at: datetime | None = None
    acks: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def end_at(self) -> datetime:
        return self.script.start_at + sum((timedelta(minutes=b.minutes) for b in self.blocks), timedelta(0))

    @property
    def told(self) -> bool:
        """Whether it belongs into the list of events."""
        return self.modification >= 0 and self.status != "completed" and not (self.cancelled and self.answered)

    @property
    def answered(self) -> bool:
        return self.modification in self.acks

    def play(self, now: datetime) -> None:
        """Bring the event to where the script has it at `now`."""
        if now < self.script.announce_at:
            return
        stated = [(self.script.announce_at, self.script.blocks)]
        stated += [(c.at, c.blocks) for c in self.script.changes if c.at <= now]
        if len(stated) - 1 > self.modification:
            self.modification = len(stated) - 1
            self.stated_at, blocks = stated[-1]
            self.cancelled = not blocks
            self.blocks = blocks or self.blocks or self.script.blocks
        self.status = self._status(now)

    def _status(self, now: datetime) -> str:
        if self.cancelled:
            return "cancelled"
        if now >= self.end_at:
            return "completed"
        if now >= self.script.start_at:
            return "active"
        return "near" if now >= self.script.start_at - NEAR else "far"

    def instants(self) -> list[datetime]:
        """When something about this event changes."""
        start_at = self.script.start_at
        return [self.script.announce_at, start_at - NEAR, start_at, self.end_at, *(c.at for c in self.script.changes)]
