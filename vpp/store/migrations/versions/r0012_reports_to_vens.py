"""Reports our OpenADR 2.0b VTN sends to VENs: how far each is, and the values of one VEN in the order they came."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table openadr2_report_request add column after_id bigint")
    op.execute("create index ix_vtn2_report_value_peer_id_id on vtn2_report_value (peer_id, id)")


def downgrade() -> None:
    op.execute("drop index ix_vtn2_report_value_peer_id_id")
    op.execute("delete from openadr2_report_request where source like 'ven:%'")
    op.execute("alter table openadr2_report_request drop column after_id")
