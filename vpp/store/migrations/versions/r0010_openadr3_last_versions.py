"""When the last version of an OpenADR 3 event was heard; reports of each resource."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table openadr3_event_seen add column closed_at timestamptz")
    op.execute("alter table openadr3_event_seen add column asked integer not null default 0")
    op.execute("alter table openadr3_event_seen alter column asked drop default")
    # Long over: a VTN that has dropped it since then means nothing by it.
    op.execute("update openadr3_event_seen set closed_at = over_at where over_at < now() - interval '1 day'")
    op.execute("update openadr3_event_seen set closed_at = gone_at where gone_at is not null")
    op.execute(
        "create index ix_openadr3_event_seen_unclosed on openadr3_event_seen (source, over_at) where closed_at is null"
    )
    op.execute(
        """
        update openadr3_report set report = report - 'resource_name' - 'intervals' || jsonb_build_object(
            'resources',
            jsonb_build_array(
                jsonb_build_object('name', report -> 'resource_name', 'intervals', report -> 'intervals')
            )
        )
        """
    )


def downgrade() -> None:
    op.execute(
        """
        update openadr3_report set report = report - 'resources' || jsonb_build_object(
            'resource_name', report -> 'resources' -> 0 -> 'name',
            'intervals', report -> 'resources' -> 0 -> 'intervals'
        )
        """
    )
    op.execute("drop index ix_openadr3_event_seen_unclosed")
    op.execute("alter table openadr3_event_seen drop column closed_at")
    op.execute("alter table openadr3_event_seen drop column asked")
