"""How large a whole number may be that travels."""

from __future__ import annotations

INTEGER_MAX = 2**53 - 1
"""Above this a JSON reader may round, and nothing that is told was ever as many, as long or as late: it is forged."""
