"""What names of this run have in them, so that they are no other run's."""

from __future__ import annotations

import os
import uuid

RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)[:8]
"""The same in all processes of a run, which must collect the same tests."""
