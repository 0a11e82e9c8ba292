"""Proving the guarantees: a fleet of real processes, faults by a seed, and a checker that stands outside.

``scripts/chaos`` runs any of it by hand, the tests in this directory run small sizes of it. docs/chaos.md is written
from the results.
"""
