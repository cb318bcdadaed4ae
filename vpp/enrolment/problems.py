"""Room enrolment: what is wrong with an enrolment, cell by cell.

Raised by `csvfile`, `forms` and `enrol`; shown by the command line and the portal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vpp.domain.errors import InvalidRequest

SHOWN = 5
VALUE_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One bad cell.

    Attributes:
        line: line of the file, from 1; for a list sent to the API the entry's place, from 0.
        column: the column's name, or the field's path in JSON; empty where it concerns the whole line or file.
        value: what was given, as text.
        allowed: what would be right, in words.
    """

    line: int
    column: str
    value: str
    allowed: str

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", {self.column}" if self.column else "")
        return f"{where}: {self.value!r} is not allowed; expected {self.allowed}"


def shown(value: object) -> str:
    """A value as short text for a problem."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= VALUE_LENGTH else text[: VALUE_LENGTH - 1] + "…"


class EnrolmentRefused(InvalidRequest):
    """Nothing was enrolled. `problems` names every bad cell that was found, ordered by line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: list[Problem] = sorted(problems, key=lambda problem: problem.line)
        first = self.problems[0]
        super().__init__(first.column, first.value, first.allowed)
        self.args = (self._text(),)

    def _text(self) -> str:
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        more = len(self.problems) - len(lines)
        return "\n".join(lines + ([f"and {more} more"] if more else []))
