"""The requests that this gateway owns, from their admission to their end, and what the ledger hears of them."""
