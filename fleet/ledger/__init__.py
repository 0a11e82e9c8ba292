"""``fleet ledger``: making sums anew, and looking for what does not fit."""
