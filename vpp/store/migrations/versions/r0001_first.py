"""The first schema: our tables, procrastinate's, and what makes posted rows unchangeable.

Frozen: the statements stand beside this file as text, so that a table changed later does not change
what this revision makes. Write a new revision instead; a test finds what is missing.
"""

from pathlib import Path

from alembic import op
from procrastinate.schema import SchemaManager

from vpp.domain.errors import Conflict
from vpp.store.migrations.immutable import REFUSE_FUNCTION, refuse_changes

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    raw = op.get_bind().execution_options(no_parameters=True)
    raw.exec_driver_sql(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
    raw.exec_driver_sql(SchemaManager.get_schema())
    raw.exec_driver_sql(REFUSE_FUNCTION)
    for table in ("ledger_batch", "ledger_transfer", "commitment_target"):
        for statement in refuse_changes(table):
            raw.exec_driver_sql(statement)


def downgrade() -> None:
    raise Conflict("below revision 0001 there is no ledger: drop the database if that is what you want")
