"""The REST API: its routes, and the models of what they answer."""
