"""Measurements that are run by hand. ``python -m bench.main_job`` is the one to begin with."""
