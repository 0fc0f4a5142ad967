"""An event loop without time and without sockets: one thread, one seed, and every run of a seed is the same run.

Code that runs on it is ordinary asyncio code and knows nothing of it. What is different:

    time        is virtual: it stands still while anything can run and then jumps to the next timer
    order       among nodes that could run the seed decides; within a node callbacks run in the order asyncio promises
    nodes       each handle belongs to the node (a simulated machine) in whose context it was made; a node can be
                killed (nothing of it ever runs again, no ``finally`` either), paused and resumed
    sockets     ``create_connection`` and ``create_server`` lead to ``network.SimNetwork``

Dice: every purpose has its own stream, so that removing one fault leaves all other dice as they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import random
import signal
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from switch.sim.network import SimNetwork, SimServer, SimSocket

STEPS_MAX: Final = 5_000_000  # a run takes thousands; this many is a loop that never ends
CPU_S_MAX: Final = 60.0  # a run takes hundredths of a second; the switch that ships never comes near it
_NODE: contextvars.ContextVar[Node | None] = contextvars.ContextVar("node", default=None)
# Tasks of killed nodes. Collecting one would close its coroutine and so run its ``finally`` blocks: a killed process
# runs nothing.
_GRAVES: Final[list[object]] = []


class SimDeadlockError(RuntimeError):
    """Nothing can ever happen again, and somebody still waits."""


class EndlessStepError(BaseException):
    """One step goes on for ever. No ``Exception``: code that tries again after any error would swallow it."""


@contextlib.contextmanager
def bounded(loop: SimLoop, cpu_s: float = CPU_S_MAX) -> Iterator[None]:
    """End a run of which a step never ends: ``STEPS_MAX`` is never reached then, and memory may be eaten up.

    Of the processor's time, so that a busy machine ends nothing. For the main thread of a process.
    """

    def end(signum: int, frame: object) -> None:
        loop.endless = True
        raise EndlessStepError(f"one step has taken more than {cpu_s:.0f} s of the processor")

    before = signal.signal(signal.SIGVTALRM, end)
    # Again and again: whoever catches the first one meets the next.
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)


class Node:
    """One simulated machine: a process with its own clocks.

    ``clock`` is the node's: ``now()`` goes on while the node is paused, as a real monotonic clock does; ``wall_us()``
    may be stepped.
    """

    def __init__(self, loop: SimLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.alive = True
        self.paused = False
        self.wall_offset_us = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.stopped: list[asyncio.Handle] = []  # due while paused
        self.context = contextvars.copy_context()
        self.context.run(_NODE.set, self)

    # ---- as a clock (``ports.Clock``)
    @property
    def clock(self) -> Node:
        return self

    def now(self) -> float:
        return self.loop.time()

    def wall_us(self) -> int:
        return self.loop.wall_start_us + round(self.loop.time() * 1_000_000) + self.wall_offset_us

    def step_wall(self, seconds: float) -> None:
        self.wall_offset_us += round(seconds * 1_000_000)

    # ---- life
    def run(self, callback: Callable[..., Any], *args: Any) -> Any:
        """Call it now, as this node: every handle, task and connection it makes is the node's."""
        return self.context.run(callback, *args)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.loop.create_task(coroutine, context=self.context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        return self.loop.call_at(when, callback, *args, context=self.context)

    def crash(self) -> None:
        """kill -9. What it wrote before is in the network; its peers see a reset."""
        self.alive = False
        for task in self.tasks:
            setattr(task, "_log_destroy_pending", False)  # noqa: B010 - nobody ends these, and that is no fault
        _GRAVES.extend(self.tasks)
        self.stopped.clear()
        self.loop.network.node_died(self)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        stopped, self.stopped = self.stopped, []
        self.loop.ready_again(stopped)


class SimLoop(asyncio.BaseEventLoop):
    """Args:
    seed: Of everything random.
    wall_start_us: Wall clock of all nodes at virtual time 0, microseconds since 1970.
    """

    # asyncio's own, which its stubs do not show.
    _ready: deque[Any]
    _scheduled: list[Any]
    _stopping: bool

    def __init__(self, seed: int, wall_start_us: int) -> None:
        super().__init__()
        self.seed = seed
        self.wall_start_us = wall_start_us
        self.steps = 0
        self.fingerprint = 0
        self.endless = False
        self.faults: list[str] = []  # exceptions that reached the loop
        self._now = 0.0
        self._clock_resolution = 1e-9
        self._order = self.stream("order")
        self._at_step: dict[int, Callable[[], None]] = {}
        self.network = SimNetwork(self)
        self.set_exception_handler(self._note_fault)

    # ---- dice and time
    def stream(self, name: str) -> random.Random:
        """A stream of dice of its own; the same seed and name always give the same."""
        return random.Random(f"{self.seed}|{name}")

    def time(self) -> float:
        return self._now

    def wall_s(self) -> float:
        """Unix seconds on the wall clock of the node that asks."""
        node = _NODE.get()
        offset_us = 0 if node is None else node.wall_offset_us
        return (self.wall_start_us + offset_us) / 1e6 + self._now

    def node(self, name: str) -> Node:
        return Node(self, name)

    def at_step(self, step: int, callback: Callable[[], None]) -> None:
        """Call it right before the given step runs."""
        self._at_step[step] = callback

    # ---- asyncio
    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
        node = (options.get("context") or contextvars.copy_context()).get(_NODE)
        if node is not None:
            node.tasks.append(task)
            if len(node.tasks) > 64:
                node.tasks = [each for each in node.tasks if not each.done()]
        return task

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return await self.network.connect(_NODE.get(), protocol_factory, (host, port))

    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, *, sock: Any = None, **_: Any
    ) -> Any:
        if sock is None:
            sock = SimSocket(self.network, host, port)
        return SimServer(self.network, _NODE.get(), protocol_factory, sock)

    def ready_again(self, handles: list[asyncio.Handle]) -> None:
        self._ready.extend(handles)

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if self._stopping:
                return
            if not scheduled:
                raise SimDeadlockError(f"at {self._now:.3f} s nothing can happen any more")
            self._now = max(self._now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                ready.append(timer)
        handle, node = self._choose(ready)
        if handle is None:
            return
        self.steps += 1
        if self.endless:
            raise SimDeadlockError(f"step {self.steps} went on without an end")
        if self.steps > STEPS_MAX:
            raise SimDeadlockError(f"{STEPS_MAX} steps, and still no end")
        if self._at_step:
            due = self._at_step.pop(self.steps, None)
            if due is not None:
                due()
                if node is not None and not node.alive:
                    return
        self._mark(handle, node)
        handle._run()

    def _choose(self, ready: deque[Any]) -> tuple[Any, Node | None]:
        """The first handle of a node that the dice pick among those that could run."""
        firsts: dict[Node | None, int] = {}
        gone: list[int] = []
        for index, handle in enumerate(ready):
            node = handle._context.get(_NODE)
            if handle._cancelled or (node is not None and not node.alive):
                gone.append(index)
            elif node is not None and node.paused:
                node.stopped.append(handle)
                gone.append(index)
            elif node not in firsts:
                firsts[node] = index
        chosen = node = None
        if firsts:
            nodes = list(firsts)
            node = nodes[self._order.randrange(len(nodes))] if len(nodes) > 1 else nodes[0]
            gone.append(firsts[node])
            chosen = ready[firsts[node]]
        for index in sorted(gone, reverse=True):
            del ready[index]
        return chosen, node

    def _mark(self, handle: Any, node: Node | None) -> None:
        callback = handle._callback
        what = getattr(callback, "__qualname__", type(callback).__name__)
        text = f"{self.fingerprint}|{node.name if node is not None else ''}|{what}|{self._now:.9f}"
        self.fingerprint = zlib.crc32(text.encode())

    def _note_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.faults.append(f"{context.get('message')}: {error!r}")
