"""Who may ask, and how much: API keys, their limits, and budgets."""
