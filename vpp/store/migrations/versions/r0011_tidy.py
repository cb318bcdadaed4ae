"""Ids of events are their tenant's, report requests that were answered are remembered, and what is old is forgotten.

A request told again is thereby known for one that was answered. Indexes find what has become old.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table openadr2_report_request add digest text not null default '', add done_at timestamptz")
    op.execute("alter table openadr2_report_request alter column digest drop default")
    op.execute(
        "create index ix_openadr2_report_unsent on openadr2_report (source, report_request_id, start_at) "
        "where sent_at is null"
    )
    _name_by_tenant()
    op.execute("create index ix_vtn2_delivery_event on vtn2_delivery (tenant_id, event_id)")
    op.execute("create index ix_grid_event_version_stated_at on grid_event_version (stated_at)")
    op.execute("create index ix_received_event_changed_at on received_event (changed_at)")
    op.execute("create index ix_vtn2_opt_received_at on vtn2_opt (received_at)")
    op.execute("create index ix_vtn2_report_request_changed_at on vtn2_report_request (changed_at)")
    op.execute(
        "create index ix_openadr3_object_report on openadr3_object (tenant_id, modified_at) where kind = 'REPORT'"
    )


def _name_by_tenant() -> None:
    for table in ("grid_event_version", "vtn2_delivery"):
        op.execute(f"alter table {table} add column tenant_id text")
    op.execute(
        "update grid_event_version v set tenant_id = e.tenant_id from grid_event e where e.event_id = v.event_id"
    )
    op.execute("update vtn2_delivery d set tenant_id = e.tenant_id from grid_event e where e.event_id = d.event_id")
    for table in ("grid_event_version", "vtn2_delivery"):
        op.execute(f"alter table {table} alter column tenant_id set not null")
        op.execute(f"alter table {table} drop constraint fk_{table}_event_id_grid_event")
    op.execute(
        "alter table received_event drop constraint fk_received_event_forwarded_as_grid_event, "
        "drop constraint uq_received_event_forwarded_as"
    )
    op.execute("alter table grid_event drop constraint pk_grid_event")
    op.execute("alter table grid_event add constraint pk_grid_event primary key (tenant_id, event_id)")
    op.execute("drop index ix_grid_event_tenant_id")
    op.execute(
        "alter table grid_event_version drop constraint pk_grid_event_version, "
        "add constraint pk_grid_event_version primary key (tenant_id, event_id, modification_number)"
    )
    for table in ("grid_event_version", "vtn2_delivery"):
        op.execute(
            f"alter table {table} add constraint fk_{table}_tenant_id_grid_event "
            "foreign key (tenant_id, event_id) references grid_event (tenant_id, event_id)"
        )
    op.execute(
        "alter table received_event add constraint fk_received_event_tenant_id_grid_event "
        "foreign key (tenant_id, forwarded_as) references grid_event (tenant_id, event_id), "
        "add constraint uq_received_event_tenant_id_forwarded_as unique (tenant_id, forwarded_as)"
    )


def downgrade() -> None:
    op.execute("drop index ix_openadr3_object_report")
    op.execute("drop index ix_vtn2_report_request_changed_at")
    op.execute("drop index ix_vtn2_opt_received_at")
    op.execute("drop index ix_received_event_changed_at")
    op.execute("drop index ix_grid_event_version_stated_at")
    op.execute("drop index ix_vtn2_delivery_event")
    _name_over_all()
    op.execute("drop index ix_openadr2_report_unsent")
    op.execute("delete from openadr2_report_request where done_at is not null")
    op.execute("alter table openadr2_report_request drop column digest, drop column done_at")


def _name_over_all() -> None:
    """Fails, and changes nothing, where two tenants have events of one id by now."""
    for table in ("grid_event_version", "vtn2_delivery", "received_event"):
        op.execute(f"alter table {table} drop constraint fk_{table}_tenant_id_grid_event")
    op.execute("alter table received_event drop constraint uq_received_event_tenant_id_forwarded_as")
    op.execute("alter table grid_event drop constraint pk_grid_event")
    op.execute("alter table grid_event add constraint pk_grid_event primary key (event_id)")
    op.execute("create index ix_grid_event_tenant_id on grid_event (tenant_id)")
    op.execute("alter table grid_event_version drop constraint pk_grid_event_version, drop column tenant_id")
    op.execute(
        "alter table grid_event_version "
        "add constraint pk_grid_event_version primary key (event_id, modification_number), "
        "add constraint fk_grid_event_version_event_id_grid_event "
        "foreign key (event_id) references grid_event (event_id)"
    )
    op.execute("alter table vtn2_delivery drop column tenant_id")
    op.execute(
        "alter table vtn2_delivery add constraint fk_vtn2_delivery_event_id_grid_event "
        "foreign key (event_id) references grid_event (event_id)"
    )
    op.execute(
        "alter table received_event add constraint fk_received_event_forwarded_as_grid_event "
        "foreign key (forwarded_as) references grid_event (event_id), "
        "add constraint uq_received_event_forwarded_as unique (forwarded_as)"
    )
