"""Report requests that were answered are remembered for a while, so that one told again is not answered again."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "alter table openadr2_report_request add column digest text not null default '', add done_at timestamptz"
    )
    op.execute("alter table openadr2_report_request alter column digest drop default")
    op.execute(
        "create index ix_openadr2_report_unsent on openadr2_report (source, report_request_id, start_at) "
        "where sent_at is null"
    )


def downgrade() -> None:
    op.execute("drop index ix_openadr2_report_unsent")
    op.execute("delete from openadr2_report_request where done_at is not null")
    op.execute("alter table openadr2_report_request drop column digest, drop column done_at")
