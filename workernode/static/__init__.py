"""The engine of a node of type ``static``: answers without a model, for tests and demonstrations."""
