"""PostgreSQL and Valkey: engine, tables, queries, migrations and the embedded servers.

Tables are in `vpp.store.tables`, schema changes in `vpp.store.migrate`, servers in `vpp.store.embedded`.
"""

from vpp.store.engine import Store, create_engine, driver_url
from vpp.store.outage import is_outage, outlast
from vpp.store.partitions import (
    detach_partitions_before,
    drop_partitions_before,
    ensure_partitions,
    partition_days,
    partition_name,
)

__all__ = [
    "Store",
    "create_engine",
    "detach_partitions_before",
    "driver_url",
    "drop_partitions_before",
    "ensure_partitions",
    "is_outage",
    "outlast",
    "partition_days",
    "partition_name",
]
