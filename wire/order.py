"""What operators want of gateways. Every gateway hears it, and the one that it concerns obeys."""

from __future__ import annotations

import msgspec

from wire.request import Id


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="cancel"):
    """End this request: its client gets an error, and what was generated until then is charged.

    Nothing happens where the request is not open. The ledger tells how it ended.
    """

    sender: Id
    request_id: Id
