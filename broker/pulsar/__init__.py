"""Apache Pulsar as the carrier of words; the traps of its client are closed here and nowhere else."""

from broker.pulsar.broker import PulsarBroker
from broker.pulsar.limits import PulsarLimits

__all__ = ["PulsarBroker", "PulsarLimits"]
