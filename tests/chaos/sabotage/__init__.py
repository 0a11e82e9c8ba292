"""Roles with one function replaced: ``python -m tests.chaos.sabotage.X ROLE``. What the checker must find."""
