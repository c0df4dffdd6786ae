"""Threads as far as the account may have them, and what to say where it may not.

Runs at the far end too: Python 3.8, standard library only.
"""

from __future__ import annotations

import functools
import resource
import threading
import time

from caxflow.errors import CaxflowError

_TICK = 1.0  # seconds between two signs that something goes on
_PATIENCE = 900.0  # seconds without progress for which there are such signs: a disk may be that slow
_STACK = 1 << 20  # bytes of address space for each thread, where that is limited


def start(do, *arguments, name: str | None = None):
    """Start a thread that ends with the process; None where the account may have no more."""
    thread = threading.Thread(target=do, args=arguments, name=name, daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError):
        return None
    return thread


def started(do, *arguments, name: str | None = None):
    """Start a thread that cannot be done without.

    Raises
    ------
    CaxflowError
        Naming the limit that keeps it from being started.
    """
    thread = start(do, *arguments, name=name)
    if thread is None:
        raise out_of("threads")
    return thread


def do_all(jobs, alive) -> None:
    """Call all `jobs` at the same time, one after the other where threads are lacking; raise the first error.

    Parameters
    ----------
    jobs : sequence of callable
        Called with a function to be called as something goes on, which raises what ended another one.
    alive : callable
        Called when that is, and every second until nothing has gone on for a quarter of an hour: disks may
        be slow.
    """
    errors: list = []
    last = [time.monotonic()]

    def progress():
        if errors:
            raise errors[0]
        last[0] = time.monotonic()
        alive()

    def do(job):
        try:
            job(progress)
        except BaseException as error:
            errors.append(error)

    threads = [(job, start(do, job)) for job in jobs]
    for job, thread in threads:
        if thread is None:
            do(job)
    try:
        for _, thread in threads:
            while thread is not None and thread.is_alive():
                thread.join(_TICK)
                if thread.is_alive() and time.monotonic() - last[0] < _PATIENCE:
                    alive()
    except BaseException as error:
        errors.append(error)  # ends the others, too
    if errors:
        raise errors[0]


def at_once(*calls) -> list:
    """Call functions at the same time, as `do_all` does; their results, in their order."""
    results = [None] * len(calls)

    def keep(number, _):
        results[number] = calls[number]()

    do_all([functools.partial(keep, number) for number in range(len(calls))], lambda: None)
    return results


def spare_memory() -> None:
    """Have threads take little of an address space that is limited (``ulimit -v``)."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        threading.stack_size(_STACK)


def explained(error: BaseException) -> BaseException:
    """Return the error, or in its place what names the limit that was met."""
    if isinstance(error, MemoryError):
        return out_of("memory", str(error))
    if isinstance(error, RecursionError):
        return CaxflowError(
            "what is there is nested deeper than anything that is meant",
            "find out what made it, or who answers",
        )
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return out_of("threads")
    return error


def out_of(what: str, said: str = "") -> CaxflowError:
    """Return an error that names the limits of this process on threads, or on memory, and what was said."""
    limits = [("ulimit -v", resource.RLIMIT_AS, 1024, " kB of address space")]
    if what == "threads":
        limits.insert(0, ("ulimit -u", resource.RLIMIT_NPROC, 1, " processes and threads of the account"))
    told = [said] if said else []
    for name, number, unit, of in limits:
        soft = resource.getrlimit(number)[0]
        if soft != resource.RLIM_INFINITY:
            told.append(f"{name}: {soft // unit}{of}")
    known = f" ({'; '.join(told)})" if told else ""
    return CaxflowError(
        f"no more {what} can be had{known}", "raise that limit there, or do less there at a time"
    )
