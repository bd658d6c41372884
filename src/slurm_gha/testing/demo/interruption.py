"""Ctrl-C as a question that is asked at good moments, so that whatever has been begun is also taken down again."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """Somebody wants it to end."""


class Interruption:
    """A context manager: inside, SIGINT, SIGTERM and SIGHUP do nothing but set ``number``. For the main thread."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number

    @property
    def exit_status(self) -> int:
        """What a shell would report of a process that such a signal ended."""
        return 128 + (self.number or signal.SIGINT)

    def check(self) -> None:
        """Raise Interrupted if it was asked for."""
        if self.number is not None:
            raise Interrupted

    def pause(self, seconds: float) -> None:
        """Sleep, in short naps: a signal cuts none of them short, but no further one is begun."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.1))
        self.check()
