"""`/api/v1/ledger`: the trial balance. Mounted by `app.create_app`."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from vpp.portal.auth import Subject, require
from vpp.portal.context import Ctx
from vpp.settlement import trial_balance

router = APIRouter(prefix="/api/v1/ledger", tags=["ledger"])
Reader = Annotated[Subject, Depends(require(roles=("operator",), scope="read"))]


class BalanceOut(BaseModel):
    """One account: debits less credits [cents]."""

    account: str
    balance_cents: int


class TrialBalanceOut(BaseModel):
    """All accounts of the tenant. `sum_cents` is 0 unless something is broken."""

    accounts: list[BalanceOut]
    sum_cents: int


@router.get("/trial-balance")
async def get_trial_balance(context: Ctx, subject: Reader) -> TrialBalanceOut:
    """Every account's balance and their sum."""
    async with context.store.begin() as connection:
        balances = await trial_balance(connection, subject.tenant_id)
    accounts = [BalanceOut(account=name, balance_cents=cents) for name, cents in balances.items()]
    return TrialBalanceOut(accounts=accounts, sum_cents=sum(balances.values()))
