"""``POST /v1/embeddings``: a vector for each input. ``/v1/engines/{model}/embeddings`` names the model in its path.

Facts about fields and ranges are those of OpenAI's published API description.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.endpoints.endpoint import Asked
from gateway.endpoints.fields import MODEL_CHARS_MAX, ModelName, User, named
from gateway.endpoints.prompts import Prompts, count
from gateway.endpoints.reading import BodyReader
from gateway.endpoints.rules import REFUSED
from wire.errors import InvalidRequest

if TYPE_CHECKING:
    from gateway.endpoints.endpoint import Paths
    from gateway.endpoints.rules import Rule
    from wire.request import Endpoint as Name

DIMENSIONS_MAX = 65_536
ENGINES = "/v1/engines/"


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """The fields our side can judge. Everything else in the body is the node's business, and reaches it untouched."""

    input: Prompts
    model: ModelName | UnsetType = UNSET
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=DIMENSIONS_MAX)] | None = None
    user: User | None = None


PATHS: Paths = dict.fromkeys(("/v1/embeddings", ENGINES + "{model:path}/embeddings"), EmbeddingRequest)
FULL: Rule = {"minLength": 1, "items": {"minLength": 1}}
RULES: Rule = {"allOf": [REFUSED, {"properties": {"input": FULL}}]}

_reader = BodyReader(EmbeddingRequest)


class Embeddings:
    """Turns texts into vectors. Never a stream."""

    name: Name = "embeddings"
    paths = PATHS
    rules = RULES
    summary = "Turn one text or several into vectors"
    streams = False

    def parse(self, body: bytes, path: str) -> Asked:
        """See :class:`gateway.endpoints.endpoint.Endpoint`."""
        request, whole = _reader.read(body)
        count(request.input, "input", empty=False)
        return Asked(model=_engine(path) if path.startswith(ENGINES) else named(request.model), body=whole)


def _engine(path: str) -> str:
    model = path.removeprefix(ENGINES).removesuffix("/embeddings")
    if not 1 <= len(model) <= MODEL_CHARS_MAX:
        raise InvalidRequest(f"The model in the path has 1 to {MODEL_CHARS_MAX} characters.", param="model")
    return model
