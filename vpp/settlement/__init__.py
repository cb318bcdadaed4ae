"""Money: a month's pay settled into statement lines and the ledger, and statements owners can check.

Called by the lifecycle, the portal and the command line.
"""

from vpp.settlement.csvfile import statement_csv
from vpp.settlement.earnings import OwnerEarnings, last_receipt, owner_earnings, paid_by_site, paid_cents
from vpp.settlement.ledger import (
    Account,
    BatchResult,
    ChainCheck,
    Transfer,
    ledger_sum,
    owner_payable,
    post_batch,
    receivable,
    revenue,
    trial_balance,
    unallocated,
    verify_chain,
)
from vpp.settlement.settle import Settlement, settle_month
from vpp.settlement.statements import MeteredPart, PayPart, Statement, StatementLine, statement

__all__ = [
    "Account",
    "BatchResult",
    "ChainCheck",
    "MeteredPart",
    "OwnerEarnings",
    "PayPart",
    "Settlement",
    "Statement",
    "StatementLine",
    "Transfer",
    "last_receipt",
    "ledger_sum",
    "owner_earnings",
    "owner_payable",
    "paid_by_site",
    "paid_cents",
    "post_batch",
    "receivable",
    "revenue",
    "settle_month",
    "statement",
    "statement_csv",
    "trial_balance",
    "unallocated",
    "verify_chain",
]
