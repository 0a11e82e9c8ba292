"""What every process has: settings, logging, identity, health and metrics, signals and shutdown."""

__version__ = "0.1.0"
