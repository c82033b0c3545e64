"""Filters in the address bar: read leniently from a form's fields, and written back without what is empty."""

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel

from node.web.access import LIVE

Filter = TypeVar("Filter", bound=BaseModel)


def filter_of(kind: type[Filter], values: Mapping[str, str]) -> Filter:
    """The filter in the fields of a form; fields that are empty, or not of the filter, do not count. Raises pydantic's
    ValidationError for an invalid value."""
    given = {name: value.strip() for name, value in values.items() if name in kind.model_fields and value.strip()}
    return kind.model_validate(given)


def query_of(wanted: BaseModel, **more: object) -> str:
    """The filter as the query of an address."""
    values = {name: value for name, value in wanted.model_dump(mode="json").items() if value not in (None, "")}
    return urlencode(values | {name: value for name, value in more.items() if value not in (None, "")})


def live_query(wanted: BaseModel, **more: object) -> str:
    """The same, for what a page asks for by itself."""
    return query_of(wanted, **more, **{LIVE: 1})
