"""Room simulation: how much every site consumes and could generate, minute by minute, by seed.

Called by `fleet`, `history` and `world`. The world outside the batteries: nothing here depends on what
is commanded, so the same seed gives the same load with and without us.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from vpp.domain.fleet import Floats
from vpp.domain.time import as_utc
from vpp.simulation.profiles import load_profiles, local_minutes, sample, unix_minutes, utc_day
from vpp.simulation.recipes import PV_YIELD, Recipe

MINUTES_A_WEEK = 7 * 1440
LOAD_NOISE = 0.03
LOAD_NOISE_FLOOR_KW = 0.01
PV_NOISE = 0.02
MOST_SIGMAS = 3.0
LEAST_LOAD_KW = 0.03


class Weather:
    """Load and available PV of a fleet."""

    def __init__(self, recipes: Sequence[Recipe], *, time_zone: str, seed: int) -> None:
        self.profiles = load_profiles()
        self.time_zone = time_zone
        self._seed = seed
        self._first = np.array([recipe.load_rows[0] for recipe in recipes], dtype=np.int64)
        self._second = np.array([recipe.load_rows[1] for recipe in recipes], dtype=np.int64)
        self._mix = np.array([recipe.load_mix for recipe in recipes])
        self._moved_min = np.array([recipe.load_week * MINUTES_A_WEEK + recipe.load_shift_min for recipe in recipes])
        self._load_kw = np.array([recipe.load_kw for recipe in recipes])
        self._plant = np.array([recipe.pv_row for recipe in recipes], dtype=np.int64)
        self._pv_kw = np.array([recipe.pv_kw for recipe in recipes]) * PV_YIELD
        self._days: dict[datetime, tuple[Floats, Floats]] = {}

    def means(self, start_at: datetime, count: int, step: timedelta) -> tuple[Floats, Floats]:
        """Load and available PV without the noise of single minutes [kW], each of shape (step, site)."""
        local = local_minutes(unix_minutes(start_at, count, step), self.time_zone, self.profiles.first_day)[:, None]
        moved = local + self._moved_min
        load = (1 - self._mix) * sample(self.profiles.load, self._first, moved)
        load += self._mix * sample(self.profiles.load, self._second, moved)
        pv = sample(self.profiles.pv, self._plant, np.broadcast_to(local, moved.shape))
        return np.maximum(load * self._load_kw, LEAST_LOAD_KW), pv * self._pv_kw

    def minute(self, at: datetime) -> tuple[Floats, Floats]:
        """Load and available PV in the minute that holds `at` [kW], each of shape (site,)."""
        day = utc_day(at)
        if day not in self._days:
            self._days = {day: self._noisy_day(day)}
        load, pv = self._days[day]
        row = int((as_utc(at) - day).total_seconds() // 60)
        return load[row], pv[row]

    def _noisy_day(self, day: datetime) -> tuple[Floats, Floats]:
        """A day of minutes with the flicker real meters show, so that no two readings are alike."""
        load, pv = self.means(day, 1440, timedelta(minutes=1))
        random = np.random.default_rng([self._seed, 1, day.toordinal()])
        flicker, specks, clouds = (
            np.clip(random.standard_normal(load.shape, dtype=np.float32), -MOST_SIGMAS, MOST_SIGMAS) for _ in range(3)
        )
        load = load * (1 + LOAD_NOISE * flicker) + LOAD_NOISE_FLOOR_KW * specks
        return np.maximum(load, LEAST_LOAD_KW * (1 + 0.1 * flicker)), np.maximum(pv * (1 + PV_NOISE * clouds), 0.0)
