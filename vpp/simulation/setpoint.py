"""Room simulation: the active power control of a SunSpec device (model 704), with its reversion timer.

Held by `world`, written and read through `sunspec_server`.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from vpp.domain.units import kw_from_w


@dataclass(slots=True)
class Setpoint:
    """Model 704's WSet group, powers in W as on the wire, shares in hundredths of a percent.

    Attributes:
        enabled: the device holds the power; else it is under its native control.
        in_watts: `power_w` counts (WSetMod 1), else `share_e4` of its rated power.
        revert_*: what takes over when the timer has run out.
        revert_s: the timer's length; 0 means it never runs out.
        ends_at: when it runs out, by the device's clock.
    """

    enabled: bool = False
    in_watts: bool = True
    power_w: int = 0
    revert_power_w: int = 0
    share_e4: int = 0
    revert_share_e4: int = 0
    revert_enabled: bool = False
    revert_s: int = 0
    ends_at: datetime | None = None

    def wanted_kw(self, rated_kw: float) -> float:
        """The battery power asked for, discharge positive [kW]."""
        return kw_from_w(self.power_w) if self.in_watts else self.share_e4 / 10_000.0 * rated_kw

    def reverted(self) -> "Setpoint":
        """What the control is once its timer has run out."""
        return replace(
            self, enabled=self.revert_enabled, power_w=self.revert_power_w, share_e4=self.revert_share_e4, ends_at=None
        )

    def remaining_s(self, at: datetime) -> int:
        """Seconds until the timer runs out; 0 when none runs."""
        return 0 if self.ends_at is None else max(0, int((self.ends_at - at).total_seconds()))
