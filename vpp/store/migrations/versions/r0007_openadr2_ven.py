"""What our OpenADR 2.0b VENs must remember beside what they did."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table commitment add column life integer not null default 1, add column void_up_to integer")
    op.execute(
        "alter table commitment drop constraint uq_commitment_source_external_id, "
        "add constraint uq_commitment_source_external_id_life unique (source, external_id, life)"
    )
    op.execute("update commitment set void_up_to = modification_number where cancel_requested or state = 'cancelled'")
    op.execute("alter table openadr2_registration add column vtn_id text")
    op.execute("alter table openadr2_report rename column power_kw to value")
    op.execute("alter table openadr2_report add column point_id text not null default 'vpp-delivered-power'")
    op.execute(
        """
        alter table openadr2_report
            alter column point_id drop default, alter column value drop not null, add column status jsonb,
            drop constraint uq_openadr2_report_source_report_request_id_start_at,
            add constraint uq_openadr2_report_point unique (source, report_request_id, point_id, start_at),
            add constraint ck_openadr2_report_one_of check ((value is null) <> (status is null))
        """
    )
    # standing requests of the one report there was name its point by itself; now by a list of them
    op.execute(
        """
        update openadr2_report_request set request = request - 'point_id'
            || jsonb_build_object('points', jsonb_build_array(request -> 'point_id'), 'name', 'TELEMETRY_USAGE')
        """
    )
    op.execute(
        """
        create table unavailability (
            id text not null, tenant_id text not null, peer text, start_at timestamptz not null,
            end_at timestamptz not null, reason text not null, declared_at timestamptz not null,
            withdrawn_at timestamptz,
            constraint pk_unavailability primary key (id),
            constraint fk_unavailability_tenant_id_tenant foreign key (tenant_id) references tenant (id),
            constraint ck_unavailability_window check (end_at > start_at)
        )
        """
    )
    op.execute("create index ix_unavailability_tenant_id on unavailability (tenant_id)")
    op.execute(
        """
        create table unavailability_told (
            unavailability_id text not null, source text not null, created_at timestamptz, cancelled_at timestamptz,
            refusal text,
            constraint pk_unavailability_told primary key (unavailability_id, source),
            constraint fk_unavailability_told_unavailability_id_unavailability
                foreign key (unavailability_id) references unavailability (id)
        )
        """
    )


def downgrade() -> None:
    op.execute("drop table unavailability_told")
    op.execute("drop table unavailability")
    op.execute("delete from openadr2_report where point_id <> 'vpp-delivered-power' or value is null")
    op.execute(
        """
        alter table openadr2_report
            drop constraint ck_openadr2_report_one_of, drop constraint uq_openadr2_report_point,
            drop column status, drop column point_id, alter column value set not null,
            add constraint uq_openadr2_report_source_report_request_id_start_at
                unique (source, report_request_id, start_at)
        """
    )
    op.execute("alter table openadr2_report rename column value to power_kw")
    op.execute(
        "update openadr2_report_request set request = (request - 'points' - 'name') "
        "|| jsonb_build_object('point_id', request -> 'points' -> 0)"
    )
    op.execute("alter table openadr2_registration drop column vtn_id")
    op.execute(
        "alter table commitment drop constraint uq_commitment_source_external_id_life, "
        "add constraint uq_commitment_source_external_id unique (source, external_id)"
    )
    op.execute("alter table commitment drop column life, drop column void_up_to")
