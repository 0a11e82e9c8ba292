"""How a local engine is, told to its node, to whoever listens to presence, and to the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from process.lifecycle import Tasks
    from workernode.heartbeat import Heartbeat
    from workernode.local.supervisor import Report
    from workernode.node import Node
    from workernode.record import Recorder


class Reporter:
    """Passes on what a local engine tells of itself."""

    def __init__(self, node: Node, heartbeat: Heartbeat, recorder: Recorder, background: Tasks) -> None:
        self._node, self._heartbeat, self._recorder, self._background = node, heartbeat, recorder, background

    def hear(self, report: Report) -> None:
        """The node's state follows at once; events are published in the background."""
        if self._node.started:
            self._node.engine_is(report.state, report.sentence)
        elif report.state != "ready":
            self._heartbeat.become(report.state, report.sentence)
        if report.event is not None:
            sentence = report.sentence or "The engine is ready again."
            event = self._recorder.node_event(report.event, sentence)
            self._background.start(self._recorder.publish(event), report.event)
