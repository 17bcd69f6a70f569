"""Work on several cores at once, each in a thread of its own that is bound to its PU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from mapper.host.affinity import pin


def on_cores(work: Sequence[tuple[int, Callable[[], float]]], halt: Callable[[], None]) -> list[float]:
    """What each function gives, called in a thread bound to its PU; all run at once.

    `halt` must make them end soon: it is called when one of them fails or the caller is interrupted. No thread is left.

    Raises: the first exception of a thread.
    """
    results = [0.0] * len(work)
    failures: list[BaseException] = []

    def run(number: int, pu: int, function: Callable[[], float]) -> None:
        try:
            pin({pu})
            results[number] = function()
        except BaseException as error:
            failures.append(error)
            halt()

    threads = [threading.Thread(target=run, args=(i, pu, f), daemon=True) for i, (pu, f) in enumerate(work)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        halt()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        raise
    if failures:
        raise failures[0]
    return results
