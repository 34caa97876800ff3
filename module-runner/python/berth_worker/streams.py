"""Whatever SERVICE_* functions return, made plain: iterators for inference, waited-for results for the others.

Async results run on one event loop in a thread of its own, because clients and engines that a module makes at load
belong to the loop they were made on. asyncio is imported only when a module needs it.
"""

from __future__ import annotations

import threading

from .errors import UnfitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, Optional


def settle(result: Any) -> Any:
    """Waits for the result of an ``async def``; gives back anything else as it is."""
    return _loop_thread().wait(result) if hasattr(result, "__await__") else result


def as_iterator(result: Any) -> Iterator[Any]:
    """What an inference yields, for whatever it returned. Nothing for None."""
    if hasattr(result, "__await__"):
        result = settle(result)
    if result is None:
        return iter(())
    if hasattr(result, "__anext__") or hasattr(result, "__aiter__"):
        return _drain_async(result.__aiter__())
    if hasattr(result, "__next__"):
        return result
    if isinstance(result, (list, tuple)):
        return iter(result)
    raise UnfitError(
        f"SERVICE_INFERENCE returned {type(result).__name__}; it has to be a generator, or return one, or None",
    )


def _drain_async(source: Any) -> Iterator[Any]:
    loop = _loop_thread()
    exhausted = False
    try:
        while True:
            try:
                item = loop.wait(source.__anext__())
            except StopAsyncIteration:
                exhausted = True
                return
            yield item
    finally:
        close = getattr(source, "aclose", None)
        if close is not None and not exhausted:
            loop.wait(close())


class _LoopThread:
    def __init__(self) -> None:
        import asyncio

        self._asyncio = asyncio
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name="berth-event-loop", daemon=True).start()

    def _run(self) -> None:
        self._asyncio.set_event_loop(self._loop)
        while True:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # sys.exit in a task stops the loop after the task has failed with it: whoever waits reports it.
                continue

    def wait(self, awaitable: Any) -> Any:
        return self._asyncio.run_coroutine_threadsafe(_awaited(awaitable), self._loop).result()


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


_shared: Optional[_LoopThread] = None
_shared_lock = threading.Lock()


def _loop_thread() -> _LoopThread:
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = _LoopThread()
        return _shared
