"""``fleet keys``: clients' keys in management's database."""
