"""What management's REST API tells, as tables: ``fleet usage``, ``fleet nodes``, ``fleet top`` and their like."""
