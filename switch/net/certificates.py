"""The certificates in use: read at start, read again when their files change, watched until they end.

A connection takes the certificates of the moment it is made; those that live go on with theirs. Files that cannot be
used leave the ones before them in force, and are said in log and status until they are mended.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from cryptography import x509

from switch import limits
from switch.config import Config, ListenTls, UpstreamTls
from switch.errors import StartError
from switch.net import tls
from switch.ports import Observer

DAY_S: Final = 86_400.0
Stamp = tuple[tuple[int, int, int], ...]  # of each file: inode, size, time of change in ns


@dataclass(frozen=True, slots=True)
class Fact:
    """The end of what one file holds; of several certificates, the first to end."""

    name: str  # the option: "listen.tls.certificate"
    subject: str
    ends_at: float  # wall seconds
    own: bool  # ours: when it has ended, nobody talks to us

    def left_s(self, wall_s: float) -> float:
        return self.ends_at - wall_s


class End:
    """The files of one end of a connection, and what is made of them. ``load`` makes it new, or raises and keeps it.

    Args:
        name: Its section: "listen.tls".
        files: By option; "" is none.
        build: Makes the context of these files. None: somebody else does, and we only watch.
    """

    def __init__(self, name: str, files: dict[str, str], build: Callable[[], ssl.SSLContext] | None) -> None:
        self.name = name
        self._files = {option: path for option, path in files.items() if path}
        self._build = build
        self._context: ssl.SSLContext | None = None
        self._stamp: Stamp = ()
        self.facts: tuple[Fact, ...] = ()
        self.problem = ""  # with the files as they are now

    def context(self) -> ssl.SSLContext:
        assert self._context is not None, "loaded before the first connection"
        return self._context

    def load(self) -> None:
        """Raises TlsFileError."""
        self._stamp = self._now()
        try:
            facts = tuple(
                self._fact(option, path) for option, path in self._files.items() if not option.endswith("key")
            )
            self._try_the_key()
            context = self._build() if self._build is not None else None
        except ssl.SSLError as error:
            self.problem = f"{self.name}: {_why(error)} ({', '.join(self._files.values())})"
        except (OSError, ValueError) as error:
            self.problem = str(error) if isinstance(error, _FileError) else f"{self.name}: {error}"
        else:
            self.facts, self._context, self.problem = facts, context, ""
            return
        raise TlsFileError(self.problem)

    @property
    def changed(self) -> bool:
        return self._now() != self._stamp

    def _now(self) -> Stamp:
        stamps = []
        for path in self._files.values():
            try:
                told = Path(path).stat()
            except OSError:
                stamps.append((0, 0, 0))
            else:
                stamps.append((told.st_ino, told.st_size, told.st_mtime_ns))
        return tuple(stamps)

    def _fact(self, option: str, path: str) -> Fact:
        name = f"{self.name}.{option}"
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise _FileError(f"{name}: {path}: {(error.strerror or str(error)).lower()}") from error
        try:
            if option.endswith("crl"):
                revoked = x509.load_pem_x509_crl(data)
                ends = revoked.next_update_utc
                return Fact(name, _subject(revoked.issuer), ends.timestamp() if ends else float("inf"), own=False)
            first = min(x509.load_pem_x509_certificates(data), key=lambda each: each.not_valid_after_utc)
        except ValueError:
            what = "list of revoked certificates" if option.endswith("crl") else "certificate"
            raise _FileError(f"{name}: {path}: no {what} in PEM form") from None
        ends_at = first.not_valid_after_utc.timestamp()
        return Fact(name, _subject(first.subject), ends_at, own=option.endswith(("certificate", "sslcert")))

    def _try_the_key(self) -> None:
        for option, path in self._files.items():
            if option.endswith("key"):
                try:
                    Path(path).read_bytes()
                except OSError as error:
                    raise _FileError(
                        f"{self.name}.{option}: {path}: {(error.strerror or str(error)).lower()}"
                    ) from error


class TlsFileError(Exception):
    """Files that cannot be used; the text names option, path and cause."""


class _FileError(ValueError):
    pass


def _why(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "key and certificate do not belong together; was only one of them renewed?"
    return f"OpenSSL refuses the files: {(error.reason or str(error)).lower().replace('_', ' ')}"


def _subject(name: x509.Name) -> str:
    return name.rfc4514_string()[:120]


class Certificates:
    """All of one worker.

    Args:
        dsn: Its files for PostgreSQL are watched too; asyncpg reads them whenever it connects.
        wall_us: Microseconds of the wall clock.

    Raises:
        StartError: Files cannot be used; nothing is in force before.
    """

    def __init__(self, config: Config, observer: Observer, wall_us: Callable[[], int], *, dsn: str = "") -> None:
        self._observer = observer
        self._wall_us = wall_us
        self._task: asyncio.Task[None] | None = None
        self._warned_at: dict[str, float] = {}
        self.listen = _listen(config.listen.tls) if config.listen.tls.enabled else None
        self.upstreams = {
            link.name: _upstream(key, link.tls)
            for key, link in (("unionpay", config.unionpay), ("marketing", config.marketing))
            if link.tls.enabled
        }
        self._ends = [end for end in (self.listen, *self.upstreams.values(), _database(dsn)) if end is not None]
        for end in self._ends:
            try:
                end.load()
            except TlsFileError as error:
                raise StartError("certificates", str(error)) from None

    def start(self) -> None:
        """Look at once, and from then on."""
        self.look()
        if self._ends:
            self._task = asyncio.create_task(self._work(), name="certificates")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def look(self, *, reload_all: bool = False) -> list[dict[str, Any]]:
        """Take renewed files, publish how long all of them last. Returns what became of each end that was read."""
        told = []
        for end in self._ends:
            if not (reload_all or end.changed):
                continue
            try:
                end.load()
            except TlsFileError as error:
                self._observer.event("certificates.refused", reason=str(error), in_force="the ones before")
                told.append({"name": end.name, "loaded": False, "problem": str(error)})
            else:
                self._observer.event("certificates.loaded", end=end.name)
                told.append({"name": end.name, "loaded": True, "problem": ""})
        wall_s = self._wall_us() / 1e6
        for fact in self._facts():
            self._observer.gauge("switch_certificate_expiry_seconds", round(fact.left_s(wall_s)), (fact.name,))
            warned_at = self._warned_at.get(fact.name)
            late = fact.left_s(wall_s) < limits.CERTIFICATE_WARN_S
            if late and (warned_at is None or wall_s - warned_at >= limits.CERTIFICATE_WARN_EVERY_S):
                self._warned_at[fact.name] = wall_s
                self._observer.event("certificate.ending", certificate=fact.name, reason=_words(fact, wall_s))
            elif not late:
                self._warned_at.pop(fact.name, None)
        return told

    def not_ready(self) -> list[str]:
        """A certificate of ours that has ended: whoever checks it refuses us."""
        wall_s = self._wall_us() / 1e6
        return [_words(fact, wall_s) for fact in self._facts() if fact.own and fact.left_s(wall_s) <= 0]

    def notes(self) -> list[str]:
        """What somebody should do soon; nobody is unready for it."""
        wall_s = self._wall_us() / 1e6
        ending = [
            _words(fact, wall_s)
            for fact in self._facts()
            if fact.left_s(wall_s) < limits.CERTIFICATE_WARN_S and not (fact.own and fact.left_s(wall_s) <= 0)
        ]
        refused = [f"{end.problem}; the ones before are in force" for end in self._ends if end.problem]
        return ending + refused

    def status(self) -> list[dict[str, Any]]:
        wall_s = self._wall_us() / 1e6
        return [
            {"name": fact.name, "subject": fact.subject, "days_left": round(fact.left_s(wall_s) / DAY_S, 1)}
            for fact in self._facts()
        ]

    def _facts(self) -> Iterable[Fact]:
        return (fact for end in self._ends for fact in end.facts)

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(limits.CERTIFICATE_LOOK_S)
            try:
                self.look()
            except Exception as error:  # whatever it is, the next look may go well
                self._observer.event("certificates.not_looked_at", level="error", error=repr(error))


def _words(fact: Fact, wall_s: float) -> str:
    left_s = fact.left_s(wall_s)
    days = abs(left_s) / DAY_S
    span = f"{days:.0f} days" if days >= 2 else f"{abs(left_s) / 3600:.0f} hours"
    when = f"ends in {span}" if left_s > 0 else f"expired {span} ago"
    return f"{fact.name} ({fact.subject}) {when}: put a new one in its place"


def _listen(config: ListenTls) -> End:
    names = ("certificate", "key", "client_ca", "client_crl")
    return End(
        "listen.tls",
        {name: getattr(config, name) for name in names},
        lambda: tls.server_context(config.certificate, config.key, config.client_ca, config.client_crl),
    )


def _upstream(key: str, config: UpstreamTls) -> End:
    return End(
        f"{key}.tls",
        {name: getattr(config, name) for name in ("ca", "certificate", "key")},
        lambda: tls.client_context(config.ca, config.certificate, config.key),
    )


def _database(dsn: str) -> End | None:
    query = parse_qs(urlsplit(dsn).query)
    names = ("sslrootcert", "sslcert", "sslkey")
    files = {name: query[name][-1] for name in names if name in query}
    return End("database.dsn", files, None) if files else None
