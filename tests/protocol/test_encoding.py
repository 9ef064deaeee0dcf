"""Bodies of requests: the same values are the same bytes, and what cannot be sent is refused."""

from __future__ import annotations

import random
from urllib.parse import parse_qsl

import pytest

from airflow_provider_reportrun.errors import InvalidInput
from airflow_provider_reportrun.protocol.encoding import as_form, as_json

ONE = {"a": ["é", None], "b": {"d": 1, "c": True}}
OTHER = {"b": {"c": True, "d": 1}, "a": ["é", None]}
FORM = {
    "report_type": "balance.summary.1",
    "parameters": {
        "interval_start": 1680000000,
        "columns": ["payment_metadata[order id]", "net"],
        "compress": False,
        "city": "A&B=C+D é/%",
    },
}


def test_the_same_values_are_the_same_json():
    """A repeat of an idempotency key must not differ, however its mapping is ordered."""
    assert as_json(ONE) == as_json(OTHER)
    assert as_json(ONE).content == b'{"a":["\\u00e9",null],"b":{"c":true,"d":1}}'
    assert as_json(ONE).content_type == "application/json"


def test_a_form_names_its_values_in_brackets():
    """As the API's own SDK does: brackets of names as they are, of values escaped."""
    assert as_form(FORM).content_type == "application/x-www-form-urlencoded"
    assert as_form(FORM).content.decode().split("&") == [
        "parameters[city]=A%26B%3DC%2BD+%C3%A9%2F%25",
        "parameters[columns][0]=payment_metadata%5Border+id%5D",
        "parameters[columns][1]=net",
        "parameters[compress]=false",
        "parameters[interval_start]=1680000000",
        "report_type=balance.summary.1",
    ]


def test_items_of_a_list_stay_in_order():
    """The tenth does not come before the second, though its number does as text."""
    columns = [f"c{number}" for number in range(12)]
    pairs = parse_qsl(as_form({"columns": columns}).content.decode())
    assert pairs == [(f"columns[{number}]", each) for number, each in enumerate(columns)]


@pytest.mark.parametrize("value", [None, [], {}, 1.5, {"b": []}, [None], object()])
def test_what_a_form_cannot_hold_is_refused(value):
    """It would vanish without a word; the error names it."""
    with pytest.raises(InvalidInput, match=r"^a\S* is .*leave it out"):
        as_form({"a": value})


@pytest.mark.parametrize("values", [{"a": "\ud83d"}, {"a": ["x", "\udc00"]}, {"\ud83d": "a"}])
def test_half_a_character_is_refused(values):
    """UTF-8 has no bytes for it."""
    with pytest.raises(InvalidInput, match="not valid Unicode"):
        as_form(values)


def shuffled(rng, value):
    """Give an equal value whose mappings are in another order."""
    if isinstance(value, dict):
        names = rng.sample(list(value), len(value))
        return {name: shuffled(rng, value[name]) for name in names}
    return [shuffled(rng, each) for each in value] if isinstance(value, list) else value


def some_values(rng, depth=0):
    """Give values that a form can hold."""
    text = "".join(rng.choices("aZ09 &=+%[]é€😀/?#;", k=rng.randrange(6)))
    if depth == 3 or rng.random() < 0.4:
        return rng.choice([text, rng.randrange(-5, 1 << 40), rng.random() < 0.5])
    if rng.random() < 0.5:
        return [some_values(rng, depth + 1) for _ in range(rng.randrange(1, 4))]
    return {f"n{each}": some_values(rng, depth + 1) for each in range(rng.randrange(1, 4))}


def flat(value, name=""):
    """Flatten values in the plainest way."""
    if isinstance(value, dict):
        inner = [(f"{name}[{key}]" if name else key, each) for key, each in value.items()]
    elif isinstance(value, list):
        inner = [(f"{name}[{index}]", each) for index, each in enumerate(value)]
    else:
        return {name: str(value).lower() if isinstance(value, bool) else str(value)}
    return {path: text for each, one in inner for path, text in flat(one, each).items()}


@pytest.mark.parametrize("seed", range(3))
def test_a_form_holds_what_was_put_in(seed):
    """Whatever values hold, a form decodes to them, and their order makes no other bytes."""
    rng = random.Random(seed)  # noqa: S311 - the same cases each time
    for _ in range(300):
        values = {"a": some_values(rng), "b": some_values(rng)}
        encoded = as_form(values)
        assert dict(parse_qsl(encoded.content.decode(), keep_blank_values=True)) == flat(values)
        assert as_form(shuffled(rng, values)) == encoded
