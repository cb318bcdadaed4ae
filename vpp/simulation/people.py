"""Room simulation: made-up owners, some with several sites. Called by `fleet`."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from vpp.simulation.recipes import FAMILIES, HOSPITALS, SHOPS, Kind

SECOND_HOME = 0.08
CHAIN_OF = 0.6


@dataclass(frozen=True, slots=True)
class Owner:
    """Who is paid."""

    id: str
    name: str
    email: str


class People:
    """Draws an owner for each site in turn: families with a second home, shops that belong to chains."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng([seed, 3])
        self._last: dict[Kind, list[Owner]] = {kind: [] for kind in Kind}
        self._sites: Counter[str] = Counter()
        self._names: Counter[str] = Counter()
        self._count = 0

    def owner_of(self, kind: Kind) -> Owner:
        """The owner of the next site of a kind."""
        known = self._last[kind]
        again = {Kind.HOME: SECOND_HOME, Kind.COMMERCE: CHAIN_OF, Kind.HOSPITAL: 0.0}[kind]
        if known and self._random.random() < again:
            return known[int(self._random.integers(max(0, len(known) - 6), len(known)))]
        words = {Kind.HOME: FAMILIES, Kind.COMMERCE: SHOPS, Kind.HOSPITAL: HOSPITALS}[kind]
        word = words[int(self._random.integers(0, len(words)))]
        self._count += 1
        self._names[word] += 1
        initial = "ABCDEFGHIJKLMNOPRSTUVW"[int(self._random.integers(0, 22))]
        number = f" {self._names[word]}" if self._names[word] > 1 else ""
        name = f"{initial}. {word}" if kind is Kind.HOME else f"{word}{number}"
        owner = Owner(f"owner-{self._count:05d}", name, f"owner-{self._count:05d}@example.com")
        known.append(owner)
        return owner

    def name_site(self, owner: Owner, kind: Kind) -> str:
        """A name for an owner's next site."""
        self._sites[owner.id] += 1
        place = self._sites[owner.id]
        if kind is Kind.HOME:
            return f"{owner.name}, home" if place == 1 else f"{owner.name}, home {place}"
        return owner.name if place == 1 else f"{owner.name}, branch {place}"
