"""Prices are exact decimals, and what has none is missing."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import amount
from store.prices import Price, PriceList, Use, load, read_prices

if TYPE_CHECKING:
    from pathlib import Path

NOON_MS = 1_772_366_400_000
FILE = """
[[price]]
model = "large"
currency = "USD"
input = 2.50
cached_input = 0.0375
output = "10"

[[price]]
model = "large"
provider = "dear"
valid_from = 2026-03-01T12:00:00Z
currency = "EUR"
input = 3
output = 0.1
per_request = 0.000000001
per_image = 0.002

[[cost]]
model = "large"
currency = "USD"
input = 1
"""


def use(**fields: Any) -> Use:
    base: dict[str, Any] = {"model": "large", "provider": None, "time_ms": NOON_MS, "images": 0}
    return Use(**(base | {"prompt": 0, "completion": 0, "cached": 0, "reasoning": 0} | fields))


@pytest.fixture
def prices(tmp_path: Path) -> PriceList:
    (tmp_path / "prices.toml").write_text(FILE)
    return read_prices(tmp_path / "prices.toml")


def test_a_price_of_a_million_tokens_is_counted_to_a_billionth(prices: PriceList) -> None:
    price = prices.find("price", "large", None, NOON_MS)
    assert price is not None
    assert price.amount(use(prompt=1_000_000, completion=1)) == 2_500_010_000
    assert price.amount(use(prompt=1000, cached=1000)) == 37_500
    # 37.5 and 112.5 billionths: rounded to the even one.
    assert [price.amount(use(prompt=n, cached=n)) for n in (1, 3)] == [38, 112]


def test_a_provider_and_a_time_have_their_own_price(prices: PriceList) -> None:
    def currency(provider: str | None, time_ms: int) -> str | None:
        price = prices.find("price", "large", provider, time_ms)
        return price.currency if price else None

    assert currency("dear", NOON_MS) == "EUR"
    assert currency("dear", NOON_MS - 1) == currency("cheap", NOON_MS) == currency(None, NOON_MS) == "USD"
    assert prices.find("price", "small", None, NOON_MS) is None
    assert [price.currency for price in prices.valid("large", NOON_MS - 1)] == ["USD", "USD"]
    assert {price.currency for price in prices.valid("large", NOON_MS)} == {"USD", "EUR"}


def test_requests_and_images_have_prices(prices: PriceList) -> None:
    price = prices.find("price", "large", "dear", NOON_MS)
    assert price is not None
    assert price.amount(use(images=3)) == 6_000_001


def test_what_is_used_and_has_no_price_is_missing_and_not_free(prices: PriceList) -> None:
    cost = prices.find("cost", "large", "dear", NOON_MS)
    assert cost is not None
    assert cost.amount(use(prompt=5)) == 5_000
    assert cost.amount(use(prompt=5, completion=1)) is None


def test_a_version_is_that_of_the_content(prices: PriceList, tmp_path: Path) -> None:
    (tmp_path / "again.toml").write_text("# The same.\n" + FILE.replace("2.50", "2.5"))
    (tmp_path / "other.toml").write_text(FILE.replace("2.50", "2.51"))
    assert read_prices(tmp_path / "again.toml").version == prices.version == load(prices.content).version
    assert read_prices(tmp_path / "other.toml").version != prices.version
    assert load(prices.content).prices == prices.prices


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("input = 1", "a table 'input'"),
        ("[price]\nmodel='a'", "two brackets"),
        ("[[price]]\ncurrency='USD'", r"\[\[price\]\] number 1: .*model"),
        ("[[price]]\nmodel='a'\ncurrency='usd'", "three capital letters"),
        ("[[price]]\nmodel='a'\ncurrency='USD'\ninput=-1", "input: '-1' is no amount"),
        ("[[price]]\nmodel='a'\ncurrency='USD'\ninput=nan", "input: 'NaN' is no amount"),
        ("[[price]]\nmodel='a'\ncurrency='USD'\ninput=0.0000000001", "more than 9 digits"),
        ("[[price]]\nmodel='a'\ncurrency='USD'\ninput=true", "input is a decimal"),
        ("[[price]]\nmodel='a'\ncurrency='USD'\nvalid_from=2026-01-01", "a time with a zone"),
        ("[[price]]\nmodel='a'\ncurrency='USD'\nprice=1", "price"),
        ("[[price]]\nmodel='a'\ncurrency='USD'\n" * 2, "number 2 is for the same model"),
        ("[[price", "no TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_prices(tmp_path / "wrong.toml")


@given(st.integers(0, 10**21 - 1))
def test_an_amount_is_read_as_it_is_shown(nanos: int) -> None:
    assert amount.parse(amount.shown(nanos)) == nanos


@given(
    prompt=st.integers(0, 10**7),
    cached=st.integers(0, 10**7),
    completion=st.integers(0, 10**7),
    prices=st.tuples(*(st.integers(0, 10**11) for _ in range(3))),
)
def test_an_amount_is_the_fraction_rounded_once(
    prompt: int, cached: int, completion: int, prices: tuple[int, int, int]
) -> None:
    price = Price(model="m", currency="USD", input=prices[0], cached_input=prices[1], output=prices[2])
    cached = min(cached, prompt)
    exact = Fraction((prompt - cached) * prices[0] + cached * prices[1] + completion * prices[2], 10**6)
    assert price.amount(use(prompt=prompt, cached=cached, completion=completion)) == (
        round(exact) if round(exact) <= amount.AMOUNT_MAX else None
    )
