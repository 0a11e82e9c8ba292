"""Amounts of money: whole numbers of a billionth of the currency's unit, never floats.

An amount is rounded once, where a charge is priced; sums of amounts are exact. In JSON it is a decimal in a string,
for a JSON number is a float to most readers.
"""

from __future__ import annotations

import re
from decimal import Decimal

NANOS = 1_000_000_000
"""What the number 1 000 000 000 stands for: one dollar, euro, yen …"""
DIGITS = 9
AMOUNT_MAX = 10**15
"""A million of the currency's unit: no single request costs more. A database's integers hold 9,000 such sums."""

_DECIMAL = re.compile(r"\d{1,12}(\.\d+)?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)


def parse(text: str) -> int:
    """Nanos of a decimal such as ``2.50``. Raises ValueError for anything else, and for more than nine digits."""
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no amount: write a decimal such as 2.50")
    nanos = Decimal(text) * NANOS
    if nanos != int(nanos):
        raise ValueError(f"{text[:40]!r} has more than {DIGITS} digits behind the point")
    return int(nanos)


def shown(nanos: int) -> str:
    """The decimal, with two digits behind the point at least: ``2.50``, ``0.000037500`` becomes ``0.0000375``."""
    sign, whole = ("-", -nanos) if nanos < 0 else ("", nanos)
    units, rest = divmod(whole, NANOS)
    digits = f"{rest:0{DIGITS}}".rstrip("0").ljust(2, "0")
    return f"{sign}{units}.{digits}"


def is_currency(text: str) -> bool:
    """Whether it is written like a currency of ISO 4217: three capital letters."""
    return _CURRENCY.fullmatch(text) is not None
