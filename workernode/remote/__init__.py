"""The engine of a node of type ``remote``: relays requests to an OpenAI-compatible HTTP API."""
