"""What the ledger may be asked, and the statements behind the answers."""
