"""The counting-house: events in; ledger, node registry and REST API out. ``python -m management`` starts it."""
