"""Shows that something long goes on, for as long as it does. Without torch."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TELL_EVERY_S = 2.0


@contextlib.contextmanager
def growing(
    progress: Callable[[str, str, float], None], state: str, share: float, sentence: Callable[[], str]
) -> Iterator[None]:
    """Call ``progress`` from another thread whenever ``sentence`` says something else: whoever hears nothing new for
    long takes it for stalled."""
    over = threading.Event()

    def tell() -> None:
        told = sentence()
        while not over.wait(TELL_EVERY_S):
            now = sentence()
            if now != told:
                told = now
                progress(state, now, share)

    thread = threading.Thread(target=tell, name="growth", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
