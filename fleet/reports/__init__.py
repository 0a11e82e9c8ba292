"""``fleet usage``, ``fleet requests`` and ``fleet nodes``: what management's REST API tells, as tables."""
