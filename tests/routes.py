"""The routes of an application that a role has made, found by themselves: a new one is tested without being named."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import pytest
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI


@contextlib.contextmanager
def caught(module: Any, name: str) -> Iterator[list[FastAPI]]:
    """The applications that ``module`` makes of its class ``name`` meanwhile."""
    made: list[FastAPI] = []

    class Caught(getattr(module, name)):  # type: ignore[misc]
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, Caught)
        yield made


def routes_of(app: FastAPI, value: str) -> list[tuple[str, str]]:
    """Methods and paths of all its routes; ``value`` stands for what a path leaves open."""
    found = [
        (method, re.sub(r"\{[^}]+\}", value, path))
        for path, route in _flat(app.routes)
        for method in sorted(route.methods or ())
    ]
    assert found
    return found


def _flat(routes: Any, prefix: str = "") -> Iterator[tuple[str, Route]]:
    for route in routes:
        if (router := getattr(route, "original_router", None)) is not None:  # one that FastAPI includes as a whole
            yield from _flat(router.routes, prefix + route.include_context.prefix)
        else:
            assert isinstance(route, Route), f"{route} is neither a route nor looked into here"
            yield prefix + route.path, route
