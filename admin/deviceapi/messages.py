"""What kiosks send, as types: whatever does not fit is refused before anybody looks at it. Unknown keys are ignored.

Words of the peripherals are those of CEN/XFS; what a kiosk cannot name it leaves out.
"""

import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from admin import limits

BootId = Annotated[str, Meta(pattern="^[0-9A-Za-z_-]{8,64}$")]
Seq = Annotated[int, Meta(ge=1, le=limits.COUNTER_MAX)]
Counter = Annotated[int, Meta(ge=0, le=limits.COUNTER_MAX)]
Name = Annotated[str, Meta(max_length=60)]
Version = Annotated[str, Meta(max_length=40)]
# Details are flat, so that nothing in them is deep, and without floats, which no two programs write alike.
_Whole = Annotated[int, Meta(ge=-limits.COUNTER_MAX, le=limits.COUNTER_MAX)]
_Short = Annotated[str, Meta(max_length=500)] | _Whole | bool | None
_Long = Annotated[str, Meta(max_length=2000)] | _Whole | bool | None
Instant = Annotated[datetime.datetime, Meta(tz=True)]

UNITS = ("idc", "pin", "ptr", "ptr2", "cim", "scan", "nfc", "touch", "ups", "door", "cam")
UNIT_STATES = (
    *("online", "offline", "poweroff", "nodevice", "hwerror", "usererror", "busy", "fraudattempt", "potentialfraud"),
    "unknown",
)
SUPPLIES = ("full", "low", "out", "jammed", "unknown")
BINS = ("ok", "high", "full", "missing")
DOORS = ("open", "closed", "unknown")
# Which words go with a unit's second name: "ptr.paper", "cim.bin".
PARTS = {"paper": SUPPLIES, "ink": SUPPLIES, "bin": BINS}
COUNTERS = ("sessions", "txn_ok", "txn_bad", "slips", "jams", "restarts")


class Enrolment(Struct, frozen=True):
    serial_number: Annotated[str, Meta(min_length=1, max_length=40)]
    code: Annotated[str, Meta(min_length=1, max_length=40)]
    csr: Annotated[str, Meta(max_length=limits.REQUEST_BYTES_MAX)]


class Poll(Struct, frozen=True):
    token: Annotated[str, Meta(min_length=1, max_length=100)]


class Renewal(Struct, frozen=True):
    csr: Annotated[str, Meta(max_length=limits.REQUEST_BYTES_MAX)]


class Busy(Struct, frozen=True, omit_defaults=True):
    session: bool = False
    unsettled: Counter = 0
    journal_dirty: bool = False


class SwitchView(Struct, frozen=True, omit_defaults=True):
    """How the kiosk sees the switch."""

    signed_on: bool = False
    last_echo_s: Counter | None = None
    last_rc: Annotated[str, Meta(max_length=4)] = ""


class Resources(Struct, frozen=True, omit_defaults=True):
    """Percent, MB, degrees Celsius, milliseconds."""

    cpu: Annotated[int, Meta(ge=0, le=100)] | None = None
    mem: Annotated[int, Meta(ge=0, le=100)] | None = None
    disk_mb: Annotated[int, Meta(ge=0, le=2**40)] | None = None
    temp: Annotated[int, Meta(ge=-60, le=200)] | None = None
    rtt_ms: Annotated[int, Meta(ge=0, le=600_000)] | None = None


class Beat(Struct, frozen=True):
    boot_id: BootId
    seq: Seq
    ts: Instant
    v: Literal[1] = 1
    up_s: Counter = 0
    app: Version = ""
    ui: Version = ""
    agent: Version = ""
    cfg: Counter = 0
    content: Version = ""
    mode: Literal["in_service", "out_of_service", "maintenance", "starting", "unknown"] = "unknown"
    busy: Busy = field(default_factory=Busy)
    switch: SwitchView = field(default_factory=SwitchView)
    dev: Annotated[dict[Name, Name], Meta(max_length=limits.UNITS_MAX)] = {}
    cnt: Annotated[dict[Name, Counter], Meta(max_length=limits.UNITS_MAX)] = {}
    res: Resources = field(default_factory=Resources)
    backlog: Counter = 0


class Event(Struct, frozen=True):
    seq: Seq
    ts: Instant
    type: Annotated[str, Meta(pattern="^[a-z][a-z0-9_.]{1,47}$")]
    unit: Annotated[str, Meta(max_length=20)] = ""
    severity: Literal["info", "warning", "fault", "security"] = "info"
    detail: Annotated[dict[Name, _Short], Meta(max_length=limits.DETAIL_MAX)] = {}


class Step(Struct, frozen=True):
    step: Annotated[str, Meta(max_length=30)]
    s: Annotated[int, Meta(ge=0, le=86400)]


class Session(Struct, frozen=True):
    seq: Seq
    ts: Instant
    seconds: Annotated[int, Meta(ge=0, le=86400)]
    outcome: Literal["done", "abandoned", "timeout", "failed"]
    business: Annotated[str, Meta(max_length=30)] = ""
    last_step: Annotated[str, Meta(max_length=30)] = ""
    steps: Annotated[tuple[Step, ...], Meta(max_length=limits.STEPS_MAX)] = ()


class EventBatch(Struct, frozen=True):
    """``first``: the lowest number of this boot that the kiosk still holds; what is below and not here is lost."""

    boot_id: BootId
    first: Seq
    items: Annotated[tuple[Event, ...], Meta(max_length=limits.BATCH_MAX)]


class SessionBatch(Struct, frozen=True):
    boot_id: BootId
    first: Seq
    items: Annotated[tuple[Session, ...], Meta(max_length=limits.BATCH_MAX)]


class Report(Struct, frozen=True):
    """What became of a command."""

    state: Literal["running", "done", "failed", "refused"]
    result: Annotated[dict[Name, _Long], Meta(max_length=limits.RESULT_MAX)] = {}


class NewUpload(Struct, frozen=True):
    command: Annotated[str, Meta(pattern="^[0-9]{1,18}$")]
    kind: Literal["log", "ej", "screenshot", "diag"]
    size: Annotated[int, Meta(ge=1, le=limits.UPLOAD_MAX)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    name: Annotated[str, Meta(max_length=80)] = ""


def known_units(dev: dict[str, str]) -> dict[str, str]:
    """The entries whose words we know. A newer kiosk's other words must not stop its beat: they are left out."""
    known = {}
    for name, state in dev.items():
        unit, _, part = name.partition(".")
        words = PARTS.get(part, ()) if part else (*UNIT_STATES, *(DOORS if unit == "door" else ()))
        if unit in UNITS and state in words:
            known[name] = state
    return known
