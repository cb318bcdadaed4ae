"""Room enrolment: a tenant's contract in each programme.

Called by dispatch, measurement, settlement, gateway and the command line.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import InvalidRequest, NotFound
from vpp.domain.settlement import ProgramTerms
from vpp.store.tables.fleet import program_terms as terms_table


async def program_terms(connection: AsyncConnection, *, tenant_id: str, program: str) -> ProgramTerms:
    """Return the contract. Decimals in its options come back as the text they were stored as.

    Raises:
        NotFound: the tenant has no contract in this programme.
    """
    row = (
        await connection.execute(
            select(terms_table).where(terms_table.c.tenant_id == tenant_id, terms_table.c.program == program)
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"no contract in programme {program!r}; set its terms first")
    return ProgramTerms(
        program=row.program, nominated_kw=row.nominated_kw, currency=row.currency, options=dict(row.options)
    )


async def set_program_terms(connection: AsyncConnection, terms: ProgramTerms, *, tenant_id: str) -> ProgramTerms:
    """Record or replace the contract, and return it as it will be read.

    Raises:
        InvalidRequest: nominated power or currency cannot be.
    """
    if not (terms.nominated_kw.is_finite() and 0 <= terms.nominated_kw < 10**9):
        raise InvalidRequest("nominated_kw", terms.nominated_kw, "a power from 0 up to 10^9 kW")
    if not (len(terms.currency) == 3 and terms.currency.isascii() and terms.currency.isupper()):
        raise InvalidRequest("currency", terms.currency, "an ISO 4217 code, as USD")
    stored = replace(
        terms,
        nominated_kw=round(terms.nominated_kw, 3),
        options={name: _plain(name, value) for name, value in terms.options.items()},
    )
    values = {"nominated_kw": stored.nominated_kw, "currency": stored.currency, "options": stored.options}
    await connection.execute(
        insert(terms_table)
        .values(tenant_id=tenant_id, program=terms.program, **values)
        .on_conflict_do_update(index_elements=["tenant_id", "program"], set_=values)
    )
    return stored


def _plain(name: str, value: Any) -> Any:
    """The value as JSON can hold it: exact numbers and dates as text."""
    match value:
        case Decimal() | date():
            return str(value)
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(key): _plain(f"{name}.{key}", item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(name, item) for item in value]
        case _:
            raise InvalidRequest(f"options.{name}", value, "text, numbers, dates, lists and objects of them")
