"""Which database objects our metadata answers for, so that a comparison looks at nothing else."""

import re
from collections.abc import Mapping
from typing import Any

_NOT_OURS = re.compile(r"procrastinate_.*|reading_\d{8}")
"""The queue's tables, and the daily partitions."""


def is_ours(name: str | None, kind: str, parents: Mapping[Any, str | None]) -> bool:
    """Whether Alembic should compare this object."""
    table = name if kind == "table" else parents.get("table_name")
    return table is None or _NOT_OURS.fullmatch(table) is None
