"""How the last round with a VTN above us ended, and since when, kept with the peer: operators saw it in a log alone."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table peer add column stands_since_at timestamptz, add column trouble text")
    op.execute("alter table peer add constraint ck_peer_since check (trouble is null or stands_since_at is not null)")


def downgrade() -> None:
    op.execute("alter table peer drop column stands_since_at, drop column trouble")
