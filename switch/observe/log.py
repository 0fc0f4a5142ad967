"""Structured logs: one event a line, named ``noun.past``, JSON on stderr (or coloured text on a terminal).

Whatever is logged passes the mask here, at the sink, because card numbers reach logs through exceptions and careless
callers, not through those who think of it.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

import orjson
import structlog

from switch import limits
from switch.model import cardnumber
from switch.observe.metrics import Metrics

# Facts that are left out whatever they hold.
DENIED: Final = frozenset(
    {
        *("pan", "track", "track1", "track2", "track3", "expiry", "cvv", "cvn", "cvv2", "icc_data"),
        *("pin", "pin_block", "key", "private_key", "tmk", "mak", "pik", "tdk", "lmk", "sealed"),
        *("password", "passphrase", "secret", "dsn", "authorization", "cookie", "frame", "body"),
    }
)
# Numbers of ours that are as long as a card number; only as int, so that no text hides under these names.
LONG_NUMBERS: Final = frozenset({"payment", "payment_id", "wall_us"})
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# Names that are not "info". An event may also say its own: event(name, level="error").
LEVEL_OF: Final = {
    "wire.lost": "debug",
    "wire.aborted": "warning",
    "wire.handler_failed": "error",
    "link.dial_failed": "warning",
    "link.tls_failed": "warning",
    "listener.files_short": "warning",
    "certificates.refused": "error",
    "certificate.ending": "warning",
    "kiosk.wrong_terminal": "error",
    "loop.stalled": "warning",
    # Money or the means to move it: somebody has to look.
    "payment.late_after_final": "error",
    "payment.lost": "error",
    "worker.ended": "warning",
    "projector.failed": "warning",
    "threeway.put_off": "warning",
    "journal.lease_not_renewed": "warning",
    "timer.failed": "error",
    "journal.callback_failed": "error",
    "journal.entry_refused": "error",
    "journal.task_ended": "error",
    "card_data.unsealable": "error",
    "card_data.unreadable": "error",
    "card_data.missing": "error",
    "reversal.refused": "warning",
    "kiosk.macs_wrong": "warning",
    "terminal.stopped": "error",
    "terminal.unusable": "error",
    "terminal.keys_unusable": "warning",
}

_USER_INFO = re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]*(?=@)")


def mask(text: str) -> str:
    """``text`` without card numbers (``model.cardnumber.mask``) and without passwords in addresses.

    >>> mask("card 6222021234567890128 refused at https://me:secret@host")
    'card 622202*********0128 refused at https://***@host'
    """
    if "://" in text:
        text = _USER_INFO.sub("***", text)
    return cardnumber.mask(text)


def _safe(value: object, depth: int = 0) -> Any:
    """``value`` as JSON can hold it, masked, bounded, without denied keys and without bytes."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        text = mask(str(value))
        return value if text == str(value) and -(2**63) <= value < 2**63 else text
    if isinstance(value, str):
        return mask(value)[: limits.LOG_TEXT_SIZE_MAX]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    if isinstance(value, BaseException):
        return mask("".join(traceback.format_exception(value)))[-limits.LOG_TEXT_SIZE_MAX :]
    if depth >= limits.LOG_DEPTH_MAX:
        return type(value).__name__
    if isinstance(value, Mapping):
        return {mask(str(key)): _safe(inner, depth + 1) for key, inner in value.items() if not _denied(key)}
    if isinstance(value, Sequence | set | frozenset):
        return [_safe(inner, depth + 1) for inner in value]
    return mask(str(value))[: limits.LOG_TEXT_SIZE_MAX]


def _denied(key: object) -> bool:
    return str(key).lower() in DENIED


def _mask_all(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {
        key: value if key in LONG_NUMBERS and type(value) is int else _safe(value)
        for key, value in event.items()
        if not _denied(key)
    }


def _stamp(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {"at": datetime.now(UTC).isoformat(timespec="microseconds"), **event}


def _render_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    return orjson.dumps(event)


class Log:
    """The ``event`` part of ``ports.Observer``. A log that fails must not take a payment with it: it never raises."""

    def __init__(self, level: str = "info", stream: BinaryIO | None = None, *, pretty: bool | None = None) -> None:
        """
        Args:
            level: Least important level that is written.
            stream: Where to; None is stderr.
            pretty: True for people; None decides by whether stderr is a terminal.
        """
        self.set_level(level)
        if pretty is None:
            pretty = stream is None and sys.stderr.isatty()
        processors: list[Any] = [_stamp, _mask_all]
        if pretty:
            console = structlog.dev.ConsoleRenderer(timestamp_key="at")
            processors += [console, lambda _logger, _method, line: line.encode("utf-8", "replace")]
        else:
            processors.append(_render_json)
        self._logger: Any = structlog.wrap_logger(
            structlog.BytesLogger(stream if stream is not None else sys.stderr.buffer),
            processors=processors,
            wrapper_class=structlog.BoundLogger,
        )
        self.failed_count = 0

    def set_level(self, level: str) -> None:
        self._level = LEVELS[level]

    def event(self, name: str, **facts: Any) -> None:
        level = str(facts.pop("level", None) or LEVEL_OF.get(name, "info"))
        if LEVELS.get(level, LEVELS["error"]) < self._level:
            return
        try:
            self._logger.msg(name, level=level, **facts)
        except Exception:  # a full disk, a closed pipe, a fact whose str() raises
            self.failed_count += 1


class Observation:
    """``ports.Observer``: counts to the metrics, events to the log."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self.metrics = metrics
        self.log = log
        # Bound once: these stand on the path of every message.
        self.count = metrics.count
        self.observe = metrics.observe
        self.gauge = metrics.gauge
        self.event = log.event
