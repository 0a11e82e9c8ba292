"""Apache Pulsar as the carrier of words; the traps of its client are closed here and nowhere else.

Two ways lead to a broker. What somebody waits for goes over channels in the event loop (``channels``, ``channel``,
``channel_members``, ``frames``): producers, listeners, and consumers that pull. Consumers that prefetch are those of
the client library (``library``, ``client``, ``prefetching_consumer``). ``watch`` looks after both.
"""

from broker.pulsar.broker import PulsarBroker
from broker.pulsar.limits import PulsarLimits

__all__ = ["PulsarBroker", "PulsarLimits"]
