"""Measurements that are run by hand. ``fleet bench`` is the one to begin with."""
