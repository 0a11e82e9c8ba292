"""Which model a client means: aliases, the default, and what an operator wrote about models. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from wire.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.models.file import DeclaredModel


class ModelNames:
    """What is declared about models: by the settings, and by whoever calls :meth:`declare` beside them.

    An alias is never looked up as a model of its own.
    """

    def __init__(self, declared: dict[str, DeclaredModel], aliases: dict[str, str], default: str | None) -> None:
        self.declared = declared
        """What is known of a model beside its nodes' own words, by its name."""
        self.aliases = aliases
        """Which model stands behind each alias."""
        self.default = default
        """The model, or an alias of it, that a request means which names none."""
        self._own = declared
        self._own_aliases = aliases

    def __repr__(self) -> str:
        return f"<ModelNames {sorted(self.declared)} aliases={self.aliases} default={self.default!r}>"

    def declare(self, models: Iterable[DeclaredModel]) -> list[str]:
        """These models, and no others, are declared beside those of the settings.

        Returns a sentence for each name that is taken: the settings come first, then the order of the models. Several
        that say the same of one model are welcome, and each may add aliases.
        """
        declared, aliases, clashes = dict(self._own), dict(self._own_aliases), []
        wanted = list(models)
        for model in wanted:
            if model.name in self._own_aliases:
                clashes.append(f"{model.name!r} is an alias of {self._own_aliases[model.name]!r} in the settings.")
            if replace(declared.setdefault(model.name, model), aliases=()) != replace(model, aliases=()):
                clashes.append(f"{model.name!r} is declared twice, and differently: what was said first counts.")
        for model in wanted:
            for alias in model.aliases:
                if alias in declared:
                    clashes.append(f"{alias!r}, an alias of {model.name!r}, is a model itself.")
                elif aliases.setdefault(alias, model.name) != model.name:
                    clashes.append(f"{alias!r}, an alias of {model.name!r}, is already one of {aliases[alias]!r}.")
        self.declared, self.aliases = declared, aliases
        return clashes

    def resolve(self, asked: str | None) -> str:
        """The name of the model that is meant by ``asked``; None or an empty name means the default.

        Raises :class:`wire.errors.InvalidRequest` if there is none. Whether such a model exists is not said.
        """
        name = asked or self.default
        if name is None:
            if asked is None:
                raise InvalidRequest("model is missing.", param="model", code="missing_required_parameter")
            raise InvalidRequest("model: expected a name.", param="model")
        return self.aliases.get(name, name)

    def aliases_of(self, model: str) -> list[str]:
        """Its other names."""
        return sorted(alias for alias, name in self.aliases.items() if name == model)
