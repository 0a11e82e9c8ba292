"""``fleet bench``: the benchmarks stand in the source tree beside the package, so it is there only where that is."""

from __future__ import annotations

import click

try:
    from bench.command import bench
except ModuleNotFoundError as missing:
    if missing.name is None or missing.name.partition(".")[0] != "bench":
        raise

    @click.command()
    def bench() -> None:
        """Compare with other gateways; in a source tree only."""
        raise click.ClickException("The benchmarks are no part of the package: run this in the source tree.") from None


__all__ = ["bench"]
