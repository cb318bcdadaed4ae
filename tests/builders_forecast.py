"""Builders of metered history for tests of the forecast and its benchmark."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import text

from tests.builders import TENANT
from vpp.domain.site import Site
from vpp.store.engine import Store


async def site_rows(store: Store, sites: Sequence[Site]) -> None:
    """The least rows that let sites have metered intervals."""
    async with store.begin() as connection:
        await connection.execute(
            text("insert into tenant (id, name) values (:id, :id) on conflict do nothing"), {"id": TENANT}
        )
        for site in sites:
            await connection.execute(
                text("insert into owner (id, tenant_id, name, email) values (:id, :tenant, :id, 'a@b.example')"),
                {"id": site.owner_id, "tenant": TENANT},
            )
            await connection.execute(
                text(
                    "insert into site (id, tenant_id, owner_id, name, utility_account, time_zone, adapter, address,"
                    " max_charge_kw, max_discharge_kw, capacity_kwh, charge_efficiency, discharge_efficiency,"
                    " import_limit_kw, export_limit_kw, reserve_soc, tariff, enrolled_at)"
                    " values (:id, :tenant, :owner, :id, :account, :zone, 'sunspec', '', 5, 5, 10, 1, 1, 20, 10, 0,"
                    " '{}', :at)"
                ),
                {
                    "id": site.id, "tenant": TENANT, "owner": site.owner_id, "account": site.utility_account,
                    "zone": site.time_zone, "at": datetime.fromisoformat("2026-01-01T00:00:00+00:00"),
                },
            )  # fmt: skip


async def meter(
    store: Store, sites: Sequence[Site], starts: Sequence[datetime], net_kw: Callable[[int, datetime], float],
    *, battery_kw: float = 0.0, step: timedelta = timedelta(minutes=15),
) -> None:  # fmt: skip
    """Metered intervals from these starts: net load by site index and instant, battery at a constant power."""
    hours = step.total_seconds() / 3600
    async with store.begin() as connection:
        raw = await connection.get_raw_connection()
        cursor = raw.driver_connection.cursor()
        async with cursor.copy("copy metered_interval from stdin") as copy:
            for k, site in enumerate(sites):
                for at in starts:
                    net = net_kw(k, at)
                    for channel, power in (("grid", battery_kw - net), ("battery", battery_kw)):
                        row = (site.id, channel, at, at + step, power * hours, "measured")
                        await copy.write_row(row)
