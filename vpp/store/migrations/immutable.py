"""Triggers that let rows in and never let them change; used by the revisions."""

REFUSE_FUNCTION = """
create function vpp_refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% on % is refused: its rows are immutable, post a correction instead', tg_op, tg_table_name
    using errcode = 'restrict_violation';
end
$$
"""
"""Also in force for the table's owner and superusers, as grants would not be."""


def refuse_changes(table: str) -> tuple[str, str]:
    """SQL that refuses UPDATE, DELETE and TRUNCATE on a table."""
    return (
        f"create trigger {table}_immutable before update or delete on {table} "
        "for each row execute function vpp_refuse_change()",
        f"create trigger {table}_no_truncate before truncate on {table} "
        "for each statement execute function vpp_refuse_change()",
    )
