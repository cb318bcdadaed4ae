"""The class of devices an EiOpt speaks of, which was not kept before."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table vtn2_opt add column device_class jsonb not null default '[]'")
    op.execute("alter table vtn2_opt alter column device_class drop default")


def downgrade() -> None:
    op.execute("alter table vtn2_opt drop column device_class")
