"""The first schema: our tables, procrastinate's, and what makes posted rows unchangeable.

Until the first release this builds from the tables as they are; after that it is frozen.
"""

from alembic import op
from procrastinate.schema import SchemaManager

from vpp.domain.errors import Conflict
from vpp.store.migrations.immutable import REFUSE_FUNCTION, refuse_changes
from vpp.store.tables import metadata

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    metadata.create_all(connection, checkfirst=False)
    raw = connection.execution_options(no_parameters=True)
    raw.exec_driver_sql(SchemaManager.get_schema())
    raw.exec_driver_sql(REFUSE_FUNCTION)
    for table in ("ledger_batch", "ledger_transfer", "commitment_target"):
        for statement in refuse_changes(table):
            raw.exec_driver_sql(statement)


def downgrade() -> None:
    raise Conflict("below revision 0001 there is no ledger: drop the database if that is what you want")
