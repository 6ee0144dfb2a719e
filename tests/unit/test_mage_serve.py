"""What our start of Mage mends in Mage."""

from __future__ import annotations

import pytest

from mage import serve


class Queue:
    """As Mage's ProcessQueue: a job waits, and the last worker has just left."""

    def __init__(self, *, waiting: bool, alive: bool) -> None:
        self.queue = self
        self.waiting, self.alive = waiting, alive
        self.done: list[str] = []

    def empty(self) -> bool:
        return not self.waiting

    def is_worker_pool_alive(self) -> bool:
        return self.alive

    def start_worker_pool(self) -> None:
        self.done.append("started")

    def clean_up_jobs(self) -> None:
        self.done.append("cleaned up")


@pytest.mark.parametrize(
    ("waiting", "alive", "done"),
    [
        (True, False, ["cleaned up", "started"]),
        (True, True, ["cleaned up"]),
        (False, False, ["cleaned up"]),
    ],
)
def test_a_job_that_waits_for_nobody_gets_workers_at_the_next_tick(
    *, waiting: bool, alive: bool, done: list[str]
) -> None:
    class Mine(Queue):
        pass

    serve.keep_workers(Mine)
    queue = Mine(waiting=waiting, alive=alive)
    queue.clean_up_jobs()
    assert queue.done == done
