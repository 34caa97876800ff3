"""What concerns the process as a whole: it dies with the runner, ignores signals, survives forks of the module."""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_connections: set[Any] = set()
in_forked_child = False


def prepare() -> None:
    _die_with_parent()
    _wait_for_turn()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A handler rather than SIG_IGN: programs that the module starts get the default back.
        signal.signal(number, _ignore)
    os.register_at_fork(after_in_child=_leave_to_parent)
    for stream in (sys.stdout, sys.stderr):
        # Each line of a print reaches the log at once and whole; a text that can't be encoded is no reason to fail.
        stream.reconfigure(  # type: ignore[union-attr]
            encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=False
        )
    import faulthandler

    faulthandler.enable()


def _wait_for_turn() -> None:
    """
    Threads that wake up do not push aside who runs, which is most often the runner that has just woken them and has more
    to hand out (sched(7), SCHED_BATCH). Under load that halves the switches; where a processor is free it changes nothing.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except (AttributeError, OSError):
        # Another system, or a sandbox that does not allow it.
        pass


def keep_from_children(connection: Any) -> None:
    """A child that the module forks must not hold or write to this connection."""
    _connections.add(connection)


def forget(connection: Any) -> None:
    _connections.discard(connection)


def end_forked_child() -> None:
    """A child that comes back from module code into the worker ends here: it has nothing to serve."""
    if in_forked_child:
        _flush()
        os._exit(0)


def run_exit_hooks() -> None:
    """What modules have registered with atexit, which ``leave`` would pass over."""
    import atexit

    try:
        atexit._run_exitfuncs()
    except BaseException as exception:  # it has been printed; the end comes anyway
        print(f"an exit hook of the module failed: {exception!r}", file=sys.stderr)


def leave(status: int) -> None:
    """Ends the process now: threads of the module can't hold it up."""
    _flush()
    os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # a module may have put anything there, and the process ends
            continue


def _ignore(_number: int, _frame: Any) -> None:
    return


def _leave_to_parent() -> None:
    global in_forked_child
    in_forked_child = True
    for connection in list(_connections):
        connection.close()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is _ignore:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is _ignore:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _die_with_parent() -> None:
    """Linux only; elsewhere the end of the control connection does it."""
    if not sys.platform.startswith("linux"):
        return
    try:
        import ctypes

        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        # A Python without ctypes: the end of the control connection remains.
        return
