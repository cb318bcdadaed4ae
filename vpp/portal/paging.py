"""The bounds every list keeps: 1 to 200 entries at a time, not past the 100,000th. Called by the routers."""

from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

Item = TypeVar("Item")

MOST = 200
DEFAULT = 50
FARTHEST = 100_000

Limit = Annotated[int, Query(ge=1, le=MOST, description="how many entries")]
Offset = Annotated[int, Query(ge=0, le=FARTHEST, description="how many to pass over")]


class Page(BaseModel, Generic[Item]):
    """A part of a list, and how long the whole is."""

    items: list[Item]
    total: int
    limit: int
    offset: int
