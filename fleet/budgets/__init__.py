"""``fleet budgets``: what keys, tags and models may cost."""
