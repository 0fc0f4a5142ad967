"""The switch's control socket, as admin uses it: one JSON object a line each way (``switch/contract.py``).

Every worker of every switch has a socket of its own. Whatever happens on the other side, a caller here waits for a
bounded time, gets a bounded answer, and learns whether the switch was away or said no.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from admin import limits
from admin.errors import AdminError, StateError, UnavailableError
from switch import contract


class RefusedError(StateError):
    """The switch was asked and said no.

    Attributes:
        said: The switch's own words, in English.
        switch_code: Its stable code; "" when it gave none.
    """

    def __init__(self, said: str, switch_code: str) -> None:
        super().__init__("switch_refused", "支付前置拒绝了这一操作：{said}", said=said)
        self.said = said
        self.switch_code = switch_code


async def ask(path: Path | str, *, timeout_s: float = limits.CONTROL_ANSWER_S, **order: Any) -> Any:
    """One order to one worker, and what it answers under "ok".

    Args:
        order: ``do="status"`` and whatever belongs to it; ``contract.CONTROL_ORDERS`` has the words.

    Raises:
        RefusedError: It said no.
        UnavailableError: Nobody is there, or nothing that can be used came in time. An order that changes something
            may have been carried out nevertheless: look before you repeat it.
    """
    assert order["do"] in contract.CONTROL_ORDERS, f"{order['do']}: no order of the contract"
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=limits.CONTROL_ANSWER_MAX)
            writer.write(orjson.dumps(order) + b"\n")
            answer = orjson.loads(await reader.readline())
            if not isinstance(answer, dict) or not {"ok", "error"} & answer.keys():
                raise ValueError("neither ok nor error")
    except (
        OSError,
        TimeoutError,
        ValueError,
    ) as error:  # the last: hung up, an answer without end, or no answer at all
        raise _away(path, error, may_be_done=writer is not None) from error
    finally:
        if writer is not None:
            writer.close()
    if "error" in answer:
        raise RefusedError(str(answer["error"]), str(answer.get("code", "")))
    return answer["ok"]


def _away(path: str | Path, error: Exception, *, may_be_done: bool) -> UnavailableError:
    if may_be_done:
        code, message = "switch_silent", "支付前置没有及时响应"
        hint = "操作可能已经执行：请先刷新查看，再决定是否重试"
    elif isinstance(error, PermissionError):
        code, message = "switch_door", "没有权限打开支付前置的控制接口"
        hint = "管理端必须由运行支付前置的系统用户启动"
    else:
        code, message, hint = "switch_away", "支付前置没有运行", "请先启动支付前置"
    return UnavailableError(code, message, hint=hint, path=str(path), cause=type(error).__name__)


class Switches:
    """The sockets of all workers that admin knows.

    Args:
        paths: One each; what is not there is a worker that is down, and no fault of the configuration.
    """

    def __init__(self, paths: Sequence[Path | str]) -> None:
        self.paths = tuple(str(path) for path in paths)
        # The switch takes only so many callers: a person with `gridswitch status` must always find a place.
        self._turns = {path: asyncio.Semaphore(limits.CONTROL_CALLERS) for path in self.paths}

    async def ask(self, path: str, *, timeout_s: float = limits.CONTROL_ANSWER_S, **order: Any) -> Any:
        """As the function ``ask``; before it, waits as long again for a turn."""
        turn = self._turns[path]
        try:
            async with asyncio.timeout(timeout_s):
                await turn.acquire()
        except TimeoutError as error:
            raise UnavailableError("switch_busy", "支付前置的控制接口正忙", hint="请稍后重试", path=path) from error
        try:
            return await ask(path, timeout_s=timeout_s, **order)
        finally:
            turn.release()

    async def any(self, *, timeout_s: float = limits.CONTROL_ANSWER_S, **order: Any) -> Any:
        """Ask one after the other until one answers: for orders that any worker can carry out.

        An order that changes something is not given to a second worker once a first one may have it.

        Raises:
            RefusedError, UnavailableError: as ``ask``; of the last one, when none is there.
        """
        last = UnavailableError("switch_unknown", "没有配置支付前置的控制接口", hint="请在管理端配置中填写 control")
        for path in self.paths:
            try:
                return await self.ask(path, timeout_s=timeout_s, **order)
            except UnavailableError as error:
                last = error
                if error.code == "switch_silent" and order["do"] in contract.CONTROL_CHANGING:
                    break
        raise last

    async def all(self, *, timeout_s: float = limits.CONTROL_ANSWER_S, **order: Any) -> dict[str, Any]:
        """Ask every worker at once: path to its answer, or to the AdminError that came instead."""

        async def one(path: str) -> Any:
            try:
                return await self.ask(path, timeout_s=timeout_s, **order)
            except AdminError as error:
                return error

        answers = await asyncio.gather(*(one(path) for path in self.paths))
        return dict(zip(self.paths, answers, strict=True))
