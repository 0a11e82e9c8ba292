"""Which worker of pytest-xdist runs which file, where there are three or more.

Most tests wait, for processes, brokers and clocks, and some of them for less than a second. The last worker runs those
that only compute, at a low priority: it takes the time that the waiting ones leave, and ends when there are none left.
The second begins with those that share a cluster, which is then started once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.workermanage import WorkerController

COMPUTING = ("tests/property/", "tests/simulation/", "tests/unit/")
SHARING = "tests/kube/"
NICENESS = 10


def computes(worker: str, workers: int) -> bool:
    """Whether this is the worker for what computes."""
    return workers > 2 and worker == f"gw{workers - 1}"


class FilesSideBySide(LoadFileScheduling):  # type: ignore[misc]
    """Each file is one worker's, in the order of collection among its kind."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        worker = node.gateway.id
        computing = computes(worker, self.numnodes)
        own = [file for file in self.workqueue if file.startswith(COMPUTING) == computing]
        if computing and not own:
            node.shutdown()
            return
        if worker == "gw1":
            own.sort(key=lambda file: not file.startswith(SHARING))
        if own:
            self.workqueue.move_to_end(own[0], last=False)
        super()._assign_work_unit(node)


def give_way(config: pytest.Config) -> None:
    """Lower this process's priority if it is the worker for what computes."""
    worker = getattr(config, "workerinput", None)
    if worker is not None and computes(worker["workerid"], worker["workercount"]):
        os.nice(NICENESS)
