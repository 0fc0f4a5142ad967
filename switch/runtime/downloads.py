"""Parameters, public keys of card schemes and parameters of chip applications: from the acquirer to a kiosk.

Each message of a download goes on as it is and its answer comes back as it is: what has come, and what is still to
come, the kiosk knows. So nothing is kept here, a download goes on after any interruption and through any worker, and
an acquirer that tells each terminal something else is right as well. Between kiosk and switch both carry a MAC:
whoever changes a public key on the way would be believed by every chip.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from iso8583 import Iso8583Error, tlv
from switch import limits
from switch.dialects.codes import CardCodes
from switch.dialects.unionpay import UnionPayDialect
from switch.limits import TimeProfile
from switch.model.request import DOWNLOADS, CardAnswer, Download
from switch.ports import Observer
from switch.runtime.links import CardLink
from switch.runtime.terminals import TerminalSession, TerminalSessions

# (stable code, response code of the card network or "", field 62)
Told = Callable[[str, str, bytes], None]
_ITEMS: Final = frozenset({"370", "380"})  # each fetches one, which the request names
_NAMES: Final = ("9F06", "9F22")  # application or scheme, and index of its key


class Downloads:
    def __init__(
        self,
        *,
        link: CardLink,
        dialect: UnionPayDialect,
        codes: CardCodes,
        sessions: TerminalSessions,
        times: TimeProfile,
        observer: Observer,
    ) -> None:
        self._link = link
        self._dialect = dialect
        self._codes = codes
        self._sessions = sessions
        self._wait_s = min(limits.DOWNLOAD_ANSWER_S, times.card_s)
        self._observer = observer
        self._open: set[str] = set()  # terminals with one under way: its answer has no number to tell it by

    def relay(self, request: Download, session: TerminalSession, told: Told) -> None:
        """``told`` is called once: found with the acquirer's field 62, declined with its code, or why nobody was
        asked."""
        terminal_id = request.terminal_id
        if terminal_id in self._open or len(self._open) >= limits.DOWNLOADS_MAX:
            told("busy", "", b"")
            return
        self._open.add(terminal_id)
        frame = self._dialect.download(
            terminal_id, request.merchant_id, session.terminal.batch_number, request.network_code, request.data
        )
        self._link.manage(
            "download",
            terminal_id,
            request.network_code,
            frame,
            partial(self._answered, request, session, told),
            self._wait_s,
        )

    def _answered(self, request: Download, session: TerminalSession, told: Told, answer: CardAnswer | None) -> None:
        self._open.discard(request.terminal_id)
        code = request.network_code
        if answer is None or not _is_about(request, answer):
            told("card_unavailable", "", b"")
        elif answer.response_code != "00":
            session.must_sign_on |= answer.response_code in self._codes.sign_on_again
            told("declined", answer.response_code, b"")
        else:
            if DOWNLOADS[code]:
                self._sessions.fulfilled(session, DOWNLOADS[code])
            told("found", "00", answer.data)
        outcome = "none" if answer is None else answer.response_code
        self._observer.event("terminal.download", terminal=request.terminal_id, step=code, outcome=outcome)


def _is_about(request: Download, answer: CardAnswer) -> bool:
    """Whether an item is the one that was asked for, and not the late answer to an earlier question."""
    if request.network_code not in _ITEMS or answer.response_code != "00":
        return True
    try:
        asked, found = dict(tlv.decode(request.data)), dict(tlv.decode(answer.data[1:]))
    except Iso8583Error:
        return False
    return all(found.get(name) == asked[name] for name in _NAMES if name in asked)
