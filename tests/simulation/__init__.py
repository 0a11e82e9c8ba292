"""The whole main job in one process on a clock of its own: seeds decide what goes wrong, and a judge looks at it.

:mod:`tests.simulation.episode` tells what one seed is, :mod:`tests.simulation.seams` what of the product is replaced.
"""
