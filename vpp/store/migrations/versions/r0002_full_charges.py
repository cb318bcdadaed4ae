"""An index of full charges: when a battery's own estimate of its charge was last set right.

Only readings of a full battery are in it, so it is small; without it, a battery that has not been full
for a week is found out by reading the whole week. Making it stops ingest for as long as it takes to read
the raw readings that are kept; what comes in meanwhile waits in the stream.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create index ix_reading_full on reading (device_id, measured_at) where soc >= 0.99")


def downgrade() -> None:
    op.execute("drop index ix_reading_full")
