"""Which database objects our metadata answers for, so that a comparison looks at nothing else."""

from collections.abc import Mapping
from typing import Any

FOREIGN_PREFIX = "procrastinate_"
PARTITION_PREFIX = "reading_"


def is_ours(name: str | None, kind: str, parents: Mapping[Any, str | None]) -> bool:
    """Whether Alembic should compare this object: not the queue's tables, not daily partitions."""
    table = name if kind == "table" else parents.get("table_name")
    return table is None or not table.startswith((FOREIGN_PREFIX, PARTITION_PREFIX))
