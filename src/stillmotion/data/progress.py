"""Progress of a long reading: a bar on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from typing import Any

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Shows calls of the form (done, total, name) while it is open; silent where `show` is false."""

    def __init__(self, show: bool, title: str) -> None:
        self.show, self.title = show, title
        self.bar: Any = None
        self.spoke = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, done: int, total: int, name: str) -> None:
        if self.show and sys.stderr.isatty():
            self._draw(done, total, name)
        elif self.show and time.monotonic() - self.spoke > SECONDS_BETWEEN_LINES:
            self.spoke = time.monotonic()
            print(f"{self.title}: {done} of {total} {name}", file=sys.stderr)

    def _draw(self, done: int, total: int, name: str) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import Progress as Bar

        if self.bar is None:
            self.bar = Bar(console=Console(stderr=True), transient=True)
            self.bar.start()
            self.bar.add_task(self.title)
        self.bar.update(self.bar.task_ids[0], completed=done, total=total, description=f"{self.title} {escape(name)}")
