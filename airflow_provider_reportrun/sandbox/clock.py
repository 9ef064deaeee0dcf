"""The sandbox's own clock, and the API's formats of instants; nothing here sleeps."""

from __future__ import annotations

import threading
import time
from datetime import MAXYEAR, MINYEAR, datetime, timedelta, timezone

NANOSECONDS = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Clock:
    """The real time, plus the offset that a test added."""

    def __init__(self) -> None:
        self._offset_ns = 0
        self._lock = threading.Lock()

    def now_ns(self) -> int:
        """Return the time in nanoseconds since the epoch."""
        return time.time_ns() + self._offset_ns

    def now(self) -> datetime:
        """Return the time, UTC, to the microsecond."""
        return instant(self.now_ns())

    def advance(self, seconds: float) -> None:
        """Move forward by this many seconds; a negative number moves back."""
        with self._lock:
            self._offset_ns += int(seconds * NANOSECONDS)

    def reset(self) -> None:
        """Return to the real time."""
        with self._lock:
            self._offset_ns = 0


def instant(epoch_ns: int) -> datetime:
    """Convert nanoseconds since the epoch to an aware UTC datetime."""
    return EPOCH + timedelta(microseconds=epoch_ns // 1000)


def from_seconds(epoch: int) -> datetime:
    """
    Convert seconds since the epoch to an aware UTC datetime.

    An instant beyond the years of a datetime is moved to the first or the last of them.
    """
    try:
        return EPOCH + timedelta(seconds=epoch)
    except OverflowError:
        return EPOCH.replace(year=MAXYEAR if epoch > 0 else MINYEAR)


def with_milliseconds(moment: datetime) -> str:
    """Format an instant as most of the API does: ``2025-08-26T00:00:00.000Z``."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def with_nanoseconds(epoch_ns: int) -> str:
    """Format an instant as ``expires_at`` does: ``2025-08-26T21:53:30.446396574Z``."""
    return f"{instant(epoch_ns):%Y-%m-%dT%H:%M:%S}.{epoch_ns % NANOSECONDS:09d}Z"


def in_words(moment: datetime) -> str:
    """Format an instant as the API's messages do: ``2022-05-08 12:00:00 UTC``."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
