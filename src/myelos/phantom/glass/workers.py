"""Functions called in other processes, spawned as every platform can, with results in the order of the calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

import cv2

Item = TypeVar("Item")
Result = TypeVar("Result")
Submit = Callable[..., "Future[Any]"]


@contextmanager
def workers(count: int, start: Callable[..., None], *arguments: Any) -> Iterator[Submit]:
    """`submit(function, item)` for `count` processes, each of which called `start(*arguments)` first.

    One worker is this process itself: the reference that more must equal. After an error no new call is begun.
    """
    if count == 1:
        before = cv2.getNumThreads()
        start(*arguments)
        try:
            yield _here
        finally:
            cv2.setNumThreads(before)
        return
    executor = ProcessPoolExecutor(count, get_context("spawn"), initializer=start, initargs=arguments)
    try:
        yield executor.submit
    finally:
        executor.shutdown(cancel_futures=True)


def _here(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    done: Future[Any] = Future()
    done.set_result(function(*arguments))
    return done


def in_order(submit: Submit, function: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Results in the order of the items, of which at most `ahead` are under way."""
    flying: deque[Future[Result]] = deque()
    for item in items:
        flying.append(submit(function, item))
        if len(flying) >= ahead:
            yield flying.popleft().result()
    while flying:
        yield flying.popleft().result()
