# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""One worker on one queue: taking jobs, running them, settling their outcomes.

The reader is one loop. While there is work, a turn is one round trip: outcomes of the last turn
out, new jobs in
(``settle`` and ``take`` pipelined). When nothing is there it blocks on the streams, with a look at
the queue's
gates (pause, wishes to cancel) in the same round trip; outcomes that come meanwhile are settled
aside.

A job is taken only when there is room to start it: no job waits behind another one in a worker's
memory.

What can be lost is a reply. Entries that were delivered in a lost reply are pending under this
worker's name, so after
every broken connection the reader compares what is pending with what it holds: what it doesn't know
it starts, what is
no longer its own it cancels. An outcome stays in hand until the server has confirmed it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError, ResponseError

from forktex_core.queue import scripts
from forktex_core.queue.limits import asked
from forktex_core.queue.link import TRANSIENT
from forktex_core.queue.message import EXPIRES, KEY, Message
from forktex_core.queue.worker.delivery import Claim, Delivery, Outcome, Reason, settlement, triples
from forktex_core.queue.worker.heartbeat import sign
from forktex_core.queue.worker.runner import Runner, expired
from forktex_core.queue.worker.shares import Slots
from forktex_core.queue.worker.watch import Watch

if TYPE_CHECKING:
    from forktex_core.queue.queue import Queue

log = logging.getLogger("forktex_core.queue")

BLOCK = 1.0  # seconds of one blocking read
MOST = 1000  # outcomes in one call, jobs in one take
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0  # seconds between attempts to reach the server
SUSPECT = "q"
MORE = [b"more"]  # see take.lua
LANES = "rqhnl"
PRIORITIES = frozenset((b"h", b"n", b"l"))
BLOCKING_LANES = "rhnl"


class Consumer:
    """The part of a worker that serves one queue."""

    def __init__(
        self,
        queue: "Queue",
        worker: str,
        slots: Slots,
        about: Callable[[], dict[str, Any]],
        *,
        threads: Callable[[], ThreadPoolExecutor],
        state: dict[str, Any],
        burst: bool = False,
    ) -> None:
        self.queue, self.worker, self.drained = queue, worker, asyncio.Event()
        self.held: dict[Claim, Delivery] = {}
        self._slots, self._about, self._burst = slots, about, burst
        self._root = queue.link.root
        self._work, self._reader = queue.link.wire(), queue.link.wire()
        self._runner = Runner(queue, state, threads)
        self.watch = Watch(queue, worker, self)
        self._outcomes: list[Outcome] = []
        self._wake, self._hurry = asyncio.Event(), asyncio.Event()
        self._paused = self._stopping = self._unattended = self._blocked = False
        self._doubtful = True
        self._place, self._odd = 0, False
        self._flusher: asyncio.Task[None] | None = None

    # The reader

    async def read(self) -> None:
        """Take and start jobs until `stop`."""
        pause = FIRST_PAUSE
        while not self._stopping:
            try:
                if self._doubtful:
                    await self._reconcile()
                await self._turn()
                pause = FIRST_PAUSE
            except (*TRANSIENT, ResponseError) as error:
                log.warning("worker %s: reading %s interrupted: %r", self.worker, self._root, error)
                self._doubtful = True
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE)
        self._unattended = True
        self._flush_aside()

    async def _turn(self) -> None:
        room = 0 if self._paused else min(self._slots.room(self.queue.name), MOST)
        if not room and not self._outcomes:
            await self._rest()
            return
        # A server that learned `settle` only now took jobs first: a burst looks once more.
        again = self._burst and bool(self._outcomes)
        taken = await self._exchange(room)
        if taken == MORE:
            return
        if room:
            self._slots.press(self.queue.name, len(taken) >= 3 * room)
        await self._start(triples(taken))
        if room and not (taken or again or self._outcomes):
            await self._nothing(room)

    async def _rest(self) -> None:
        self._wake.clear()
        if self._burst and self._paused and not (self.held or self._outcomes):
            self.drained.set()  # a paused queue gives nothing
        if not (self._outcomes or self._stopping or self._doubtful):
            await self._wake.wait()

    async def _nothing(self, room: int) -> None:
        if self._burst and not self.held:
            self.drained.set()
            await self._rest()
        elif self._burst:
            await self._rest()
        else:
            await self._start(await self._block(room))

    async def _exchange(self, room: int) -> list[bytes]:
        """Settle what has ended and take up to ``room`` jobs, in one round trip."""
        outcomes, self._outcomes = self._outcomes[:MOST], self._outcomes[MOST:]
        commands = [self._settle(outcomes)] if outcomes else []
        if room:
            commands.append(self._take(room))
        try:
            replies = await self._work.send(*commands)
        except BaseException:
            self._outcomes = outcomes + self._outcomes
            raise
        for outcome in outcomes:
            self.held.pop(outcome.delivery.claim, None)
        taken: list[bytes] = replies[-1] if room else []
        self._place += sum(lane in PRIORITIES for lane in taken[::3])
        return taken

    def _settle(self, outcomes: list[Outcome]) -> scripts.Command:
        queue, words = self.queue, settlement(outcomes)
        return scripts.call("settle", self._root, queue.max_deliveries, queue.dead_letters, *words)

    def _take(self, room: int) -> scripts.Command:
        suspect = not any(delivery.lane == SUSPECT for delivery in self.held.values())
        self._odd = not self._odd  # with one free slot at a time, too, half of them
        returned = (room + self._odd) // 2
        words = (room, int(suspect), returned, self._place)
        return scripts.call("take", self._root, self.worker, *words)

    async def _block(self, room: int) -> Iterable[tuple[str, bytes, bytes]]:
        """Wait for jobs; what comes while the queue is gated is vetted first."""
        streams = [f"{self._root}:{lane}" for lane in BLOCKING_LANES]
        read: list[scripts.Word] = ["XREADGROUP", "GROUP", "w", self.worker]
        read += ["COUNT", max(1, room // len(streams)), "BLOCK", round(BLOCK * 1000)]
        read += ["STREAMS", *streams, *(">" * len(streams))]
        gates = ("EXISTS", f"{self._root}:z", f"{self._root}:x")
        self._blocked = self._unattended = True
        self._flush_aside()
        try:
            found, gated = await self._reader.send(tuple(read), gates, wait=BLOCK)
        finally:
            self._blocked = self._unattended = False
        came = [
            (stream.decode()[-1], entry, fields[1])
            for stream, entries in found or []
            for entry, fields in entries
        ]
        return await self._vet(came) if gated and came else came

    async def _vet(
        self, came: list[tuple[str, bytes, bytes]]
    ) -> Iterable[tuple[str, bytes, bytes]]:
        words = [word for delivery in came for word in delivery]
        allowed = await self._work.ask(scripts.call("vet", self._root, *words))
        return [came[place - 1] for place in allowed]

    async def _reconcile(self) -> None:
        """Join (again), and make what is pending on the server and what is held here agree."""
        await self._work.ask(sign(self._root, self.worker, self._about(), self.queue.dead_after))
        streams = [f"{self._root}:{lane}" for lane in LANES]
        read = ("XREADGROUP", "GROUP", "w", self.worker, "STREAMS", *streams, *("0" * len(LANES)))
        pending = {
            (stream.decode()[-1], entry): (stream.decode()[-1], entry, fields[1])
            for stream, entries in await self._work.ask(read) or []
            for entry, fields in entries
            if fields
        }
        for claim, delivery in list(self.held.items()):
            if claim not in pending:
                self._interrupt(delivery, "lost")
        self._doubtful = False
        known = self.held.keys()
        await self._start([pending[claim] for claim in pending if claim not in known])
        await self._hear_missed_wishes()

    async def _hear_missed_wishes(self) -> None:
        for delivery in list(self.held.values()):
            if await self._work.ask(("ZSCORE", f"{self._root}:x", delivery.message.id)) is not None:
                self._interrupt(delivery, "cancelled")

    # Starting

    async def _start(self, came: Iterable[tuple[str, bytes, bytes]]) -> None:
        asking: list[Delivery] = []
        for lane, entry, wire in came:
            self.drained.clear()
            delivery = self._delivery(lane, entry, wire)
            if self._stopping or self._slots.room(self.queue.name) < 1:
                self._finish(delivery, Outcome(delivery, "g", wire))
            elif needs_admission(delivery):
                asking.append(delivery)
            else:
                self._launch(delivery)
        if asking:
            await self._admit(asking)

    def _delivery(self, lane: str, entry: bytes, wire: bytes) -> Delivery:
        message = Message.read(wire)
        job = self.queue.jobs.get(message.name)
        delivery = Delivery(lane, entry, wire, message, job.definition if job else None)
        self.held[delivery.claim] = delivery
        return delivery

    async def _admit(self, asking: list[Delivery]) -> None:
        """Ask for places of limited jobs; those without one have left our hand."""
        words: list[scripts.Word] = []
        for delivery in asking:
            definition, key = delivery.definition, delivery.message.options.get(KEY)
            if definition is not None:
                words += (delivery.lane, delivery.entry, delivery.wire)
                words += ["1" if definition.ends_at_start else ""]
                words += asked(definition.limits, definition.name, key)
        try:
            verdicts = await self._work.ask(scripts.call("admit", self._root, *words))
        except BaseException:
            for delivery in asking:
                del self.held[delivery.claim]
            raise
        for delivery, verdict in zip(asking, verdicts, strict=True):
            if verdict:
                delivery.admitted = True
                self._launch(delivery)
            else:
                del self.held[delivery.claim]

    def _launch(self, delivery: Delivery) -> None:
        self._slots.use(self.queue.name, 1)
        expires = delivery.message.options.get(EXPIRES)
        if expires is not None and expires < self.watch.now() * 1000:
            self._slots.use(self.queue.name, -1)
            self._finish(delivery, expired(delivery))
            return
        loop = asyncio.get_running_loop()
        task = delivery.task = asyncio.Task(self._run(delivery), loop=loop, eager_start=True)
        limit = delivery.definition.timeout if delivery.definition else None
        if limit is not None and not task.done():
            delivery.alarm = loop.call_later(limit, self._interrupt, delivery, "late")

    async def _run(self, delivery: Delivery) -> None:
        try:
            outcome = await self._runner.run(delivery)
        finally:
            self._slots.use(self.queue.name, -1)
            if delivery.alarm is not None:
                delivery.alarm.cancel()
        self._finish(delivery, outcome)

    def _finish(self, delivery: Delivery, outcome: Outcome) -> None:
        if delivery.interrupted == "lost":
            self.held.pop(delivery.claim, None)
        else:
            self._outcomes.append(outcome)
        self._wake.set()
        if self._unattended:
            self._flush_aside()

    # Settling while the reader is elsewhere

    def _flush_aside(self) -> None:
        if self._outcomes and self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        pause = FIRST_PAUSE
        try:
            while self._outcomes:
                try:
                    await self._exchange(0)
                except (*TRANSIENT, RedisError) as error:
                    log.warning("worker %s: settling on %s: %r", self.worker, self._root, error)
                    self._doubtful = True
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LAST_PAUSE)
        finally:
            self._flusher = None

    # What the watch and the heartbeat tell

    def set_paused(self, paused: bool) -> None:
        """See `Watched`."""
        if paused != self._paused:
            self._paused = paused
            self._wake.set()

    def cancel(self, job_id: str) -> None:
        """See `Watched`."""
        for delivery in list(self.held.values()):
            if delivery.message.id == job_id:
                self._interrupt(delivery, "cancelled")

    def resync(self) -> None:
        """See `Watched`."""
        self._doubtful = True
        self._wake.set()

    def _interrupt(self, delivery: Delivery, reason: Reason) -> None:
        if delivery.interrupted is None:
            delivery.interrupted = reason
        if delivery.task is not None and not delivery.task.done():
            delivery.task.cancel()

    # The end

    async def stop(self) -> None:
        """Take no more jobs; a blocked reader is woken by the server, so that no delivery is on
        its way."""
        self._stopping = True
        self._wake.set()
        if self._blocked:
            await self._work.send(("CLIENT", "UNBLOCK", self._reader.client_id))

    async def finish(self, grace: float) -> None:
        """Let running jobs end for ``grace`` seconds, give back what is left, and leave."""
        await self._wait_for_jobs(grace)
        for delivery in list(self.held.values()):
            self._interrupt(delivery, "stopping")
        if tasks := self._tasks():
            await asyncio.wait(tasks, timeout=LAST_PAUSE)
        async with asyncio.timeout(self.queue.timeout):
            while self._outcomes or self._flusher is not None:
                self._flush_aside()
                await asyncio.wait([self._flusher] if self._flusher else [])
            await self._leave()

    def hurry(self) -> None:
        """End the wait for running jobs."""
        self._hurry.set()

    async def _wait_for_jobs(self, grace: float) -> None:
        waiting = asyncio.create_task(self._hurry.wait())
        deadline = asyncio.get_running_loop().time() + grace
        while not self._hurry.is_set() and (tasks := self._tasks()):
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.wait([waiting, *tasks], timeout=left, return_when="FIRST_COMPLETED")
        waiting.cancel()

    async def close(self) -> None:
        """Drop the connections."""
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.wait([self._flusher])
        await self._work.close()
        await self._reader.close()

    def _tasks(self) -> list[asyncio.Task[None]]:
        tasks = [delivery.task for delivery in self.held.values()]
        return [task for task in tasks if task is not None and not task.done()]

    async def _leave(self) -> None:
        queue = self.queue
        words = (self.worker, queue.max_deliveries, queue.dead_letters)
        while not await self._work.insist(scripts.call("leave", self._root, *words)):
            log.info("worker %s gives back what it holds of %s", self.worker, self._root)


def needs_admission(delivery: Delivery) -> bool:
    """Whether a delivery must ask before it starts."""
    definition = delivery.definition
    return definition is not None and bool(definition.limits or definition.ends_at_start)
