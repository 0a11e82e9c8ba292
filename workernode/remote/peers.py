"""Hears the heartbeats of the nodes that share this one's credential."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.interface import BrokerError
from process.logging import Log
from wire import codec
from wire.errors import UndecodableMessage
from wire.presence import RollCall

if TYPE_CHECKING:
    from broker.interface import Broker, Listener
    from wire.topics import Topics
    from workernode.remote.pace import CredentialPace

log = Log("node.remote")

PRESENCE_WAITING_MAX = 5000
"""Heartbeats that may wait in this process; more are lost, and come again."""


async def hear_peers(broker: Broker, topics: Topics, node: str, pace: CredentialPace) -> Listener:
    """Hand heartbeats to the pace until the listener is closed, and ask at once who is there.

    Those of other credentials are not even decoded: in a large fleet they are nearly all. Raises what
    :meth:`broker.interface.Broker.listen` raises.
    """

    def hear(payload: bytes) -> None:
        if pace.credential.encode() not in payload:
            return
        try:
            pace.heard(codec.decode_credential(payload))
        except UndecodableMessage as error:
            log.debug("A heartbeat could not be read.", action="undecodable", why=error.message)

    listener = await broker.listen(topics.presence, hear, waiting_max=PRESENCE_WAITING_MAX, gathers=True)
    try:
        producer = await broker.producer(topics.roll_call)
    except BrokerError:
        await listener.aclose()
        raise
    try:
        await producer.send(codec.encode(RollCall(sender=node)))
    except BrokerError as error:
        # The next heartbeats come by themselves within seconds.
        log.warning("The roll could not be called.", action="roll_call_failed", why=str(error))
    await producer.aclose()
    return listener
