"""Where the way between a kiosk and us breaks: hop by hop, in words, with what to do.

    1  name      the device API's name resolves            ours, for all kiosks
    2  port      its port takes connections                 "
    3  tls       it speaks TLS                              "
    4  beat      the kiosk's agent was heard there          this kiosk: network, certificate, agent
    5  switch    the switch itself answers us               ours
    6  session   the switch heard this terminal lately      this kiosk: line to the switch, its payment program
    7  sign_on   its keys: signed on at the card network    this terminal: keys, card network
    8  echo      its echo tests                             this terminal
    9  mac       echo tests with MAC went there and back    this terminal: gate mac_echo

A kiosk always dials out, so the first three are tried from here against our own door. ``walk`` is pure.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from admin import limits
from admin.config import Config
from admin.control import Switches
from switch import contract

_PAGES_MAX: Final = 50  # of "heard": 25,000 terminals of one worker


@dataclass(frozen=True, slots=True)
class Door:
    """Our own listener for kiosks, tried from here; None: not tried, or not reached.

    Attributes:
        fault: Which hop failed: "name", "port", "tls"; "" when none did.
    """

    host: str = ""
    port: int = 0
    fault: str = ""
    name_ms: int | None = None
    port_ms: int | None = None
    tls_ms: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the switch's workers say of a terminal, together."""

    asked: bool = True
    answered: bool = False
    heard_s: float | None = None
    echo_s: float | None = None
    signed_on: bool = False
    has_line: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    now: datetime
    door: Door
    has_certificate: bool
    status: Mapping[str, Any] | None
    terminal_id: str | None
    terminal: Mapping[str, Any] | None  # contract_v1_terminals
    gates: Mapping[str, datetime]
    stage: str
    heard: Heard


@dataclass(frozen=True, slots=True)
class Hop:
    """``state``: good, bad, unknown (nobody can say), skipped (an earlier one is broken or it is not set up).

    ``text`` and ``todo`` are msgids; ``values`` fill the former.
    """

    name: str
    title: str
    state: str
    text: str
    values: dict[str, Any] = field(default_factory=dict)
    todo: str = ""


def walk(facts: Facts) -> list[Hop]:
    """Every hop in order. The door's three and the beat are one way, switch and terminal the other: a break of one
    does not hide one of the other."""
    agent = [*_door(facts.door), _beat(facts)]
    pay = [_switch(facts), _session(facts), _sign_on(facts), _echo(facts), _mac(facts)]
    return [*_after_break(agent), *_after_break(pay)]


def _after_break(hops: list[Hop]) -> list[Hop]:
    """Behind a broken hop nothing is said: it would be about the same fault."""
    told, broken = [], False
    for hop in hops:
        if broken and hop.state != "good":
            told.append(Hop(hop.name, hop.title, "skipped", "前一环节不通，未判断"))
        else:
            told.append(hop)
        broken = broken or hop.state == "bad"
    return told


def _door(door: Door) -> list[Hop]:
    titles = (("name", "域名解析"), ("port", "TCP 连接"), ("tls", "TLS 握手"))
    if not door.host:
        return [Hop(name, title, "unknown", "没有配置设备接口，无法探测") for name, title in titles]
    faults = {
        "name": ("“{host}”解析不到地址", "检查域名服务器，以及管理端配置里的设备接口地址"),
        "port": ("{host}:{port} 连不上", "检查设备接口是否运行、防火墙是否放行；此故障影响所有终端"),
        "tls": ("{host}:{port} 的 TLS 握手失败", "检查设备接口的证书和私钥；此故障影响所有终端"),
    }
    taken = {"name": door.name_ms, "port": door.port_ms, "tls": door.tls_ms}
    values = {"host": door.host, "port": door.port}
    found = []
    for name, title in titles:
        if door.fault == name:
            text, todo = faults[name]
            found.append(Hop(name, title, "bad", text, values, todo))
        elif taken[name] is None:
            found.append(Hop(name, title, "unknown", "前一环节不通，未判断"))
        else:
            found.append(Hop(name, title, "good", "正常，{ms} 毫秒", {"ms": taken[name]}))
    return found


def _beat(facts: Facts) -> Hop:
    status = facts.status
    at = status["beat_at"] if status is not None else None
    if at is None:
        if not facts.has_certificate:
            return Hop("beat", "终端心跳", "bad", "终端还没有证书，不能上报心跳", {}, "签发入网码并复核证书")
        return Hop("beat", "终端心跳", "bad", "从未收到心跳", {}, "检查终端网络、终端时钟，以及终端上的代理程序")
    age = int((facts.now - at) / timedelta(seconds=1))
    values = {"n": age}
    if age > limits.BEAT_MISSING_S:
        return Hop(
            "beat",
            "终端心跳",
            "bad",
            "{n} 秒没有心跳",
            values,
            "检查终端供电和网络；若支付前置能听到它，则检查代理程序",
        )
    return Hop("beat", "终端心跳", "good", "{n} 秒前有心跳", values)


def _switch(facts: Facts) -> Hop:
    if not facts.heard.asked:
        text = "没有配置支付前置的控制接口，无法询问" if facts.terminal_id else "终端还没有银联终端号"
        return Hop("switch", "支付前置", "unknown", text, {}, "" if facts.terminal_id else "在档案里填写银联终端号")
    if not facts.heard.answered:
        return Hop("switch", "支付前置", "bad", "支付前置没有应答", {}, "检查支付前置是否运行；此故障影响所有终端")
    return Hop("switch", "支付前置", "good", "支付前置有应答")


def _session(facts: Facts) -> Hop:
    title = "终端到支付前置"
    if facts.terminal_id is None:
        return Hop("session", title, "unknown", "终端还没有银联终端号", {}, "在档案里填写银联终端号")
    if facts.terminal is None:
        return Hop(
            "session", title, "bad", "支付前置没有登记终端号 {terminal}", {"terminal": facts.terminal_id},
            "核对银联终端号，或在支付前置登记：gridswitch terminal add",
        )  # fmt: skip
    if not facts.heard.answered:
        return Hop("session", title, "unknown", "支付前置没有应答，无法判断")
    age = facts.heard.heard_s
    if age is None:
        return Hop(
            "session", title, "bad", "支付前置自启动以来没有听到过它", {},
            "检查终端到支付前置的线路、地址和端口，以及缴费程序是否运行",
        )  # fmt: skip
    if age > limits.HEARD_S:
        return Hop(
            "session",
            title,
            "bad",
            "支付前置 {n} 秒没有听到它",
            {"n": int(age)},
            "检查终端到支付前置的线路，以及缴费程序是否运行",
        )
    return Hop("session", title, "good", "支付前置 {n} 秒前听到它", {"n": int(age)})


def _sign_on(facts: Facts) -> Hop:
    title = "签到"
    terminal = facts.terminal
    if terminal is None:
        return Hop("sign_on", title, "unknown", "没有银联终端，无法判断")
    if facts.stage == "registered":
        return Hop("sign_on", title, "bad", "终端还没有主密钥", {}, "按密钥仪式录入主密钥")
    if terminal["signed_on_at"] is None:
        return Hop("sign_on", title, "bad", "从未签到成功", {}, "核对主密钥的校验值；看支付前置日志里银联的应答码")
    if facts.heard.answered and facts.heard.heard_s is not None and not facts.heard.signed_on:
        return Hop("sign_on", title, "bad", "签到已失效", {}, "让终端重新签到；若反复失效，核对主密钥")
    return Hop("sign_on", title, "good", "已签到，第 {epoch} 套工作密钥", {"epoch": terminal["key_epoch"]})


def _echo(facts: Facts) -> Hop:
    age = facts.heard.echo_s
    if not facts.heard.answered or facts.terminal is None:
        return Hop("echo", "回响测试", "unknown", "支付前置没有应答，无法判断")
    if age is None:
        return Hop("echo", "回响测试", "unknown", "没有发过回响测试", {}, "终端空闲时应每分钟发一次回响测试")
    if age > limits.HEARD_S and (facts.heard.heard_s or 0) > limits.HEARD_S:
        return Hop("echo", "回响测试", "bad", "{n} 秒没有回响测试", {"n": int(age)}, "检查缴费程序是否运行")
    return Hop("echo", "回响测试", "good", "{n} 秒前有回响测试", {"n": int(age)})


def _mac(facts: Facts) -> Hop:
    title = "MAC 校验"
    if facts.terminal is None:
        return Hop("mac", title, "unknown", "没有银联终端，无法判断")
    if "mac_echo" in facts.gates:
        return Hop("mac", title, "good", "三次带 MAC 的回响测试已通过")
    if facts.stage == "in_service":
        return Hop("mac", title, "unknown", "测试终端：登记时跳过了关卡")
    return Hop(
        "mac",
        title,
        "bad",
        "带 MAC 的回响测试还没有通过三次",
        {},
        "让终端发带 MAC 的回响测试；若不通过，核对密码键盘里的密钥",
    )


# ---------------------------------------------------------------------------------------------------- probes
def door_address(config: Config) -> tuple[str, int]:
    """Where kiosks report; ("", 0): nowhere."""
    options = getattr(config, "device_api", None)
    if options is None or not options.certificate_file:
        return "", 0
    return options.host, options.port


async def try_door(host: str, port: int) -> Door:
    """Name, port and handshake of our own door, each within its time; never raises."""
    started = time.monotonic()

    def ms() -> int:
        return int(1000 * (time.monotonic() - started))

    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limits.HOP_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        return Door(host, port, "name", detail=type(error).__name__)
    name_ms, started = ms(), time.monotonic()
    address = found[0][4]
    try:
        async with asyncio.timeout(limits.HOP_S):
            _, writer = await asyncio.open_connection(str(address[0]), port)
    except (OSError, TimeoutError) as error:
        return Door(host, port, "port", name_ms, detail=type(error).__name__)
    port_ms, started = ms(), time.monotonic()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # whether it speaks TLS; whom kiosks trust is theirs to check
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(limits.HOP_S):
            await writer.start_tls(context)
    except (OSError, TimeoutError) as error:  # SSLError is an OSError
        return Door(host, port, "tls", name_ms, port_ms, detail=type(error).__name__)
    finally:
        writer.close()
    return Door(host, port, "", name_ms, port_ms, ms())


async def heard_by(switches: Switches, path: str, terminal_id: str) -> list[dict[str, Any]]:
    """This worker's row of the terminal, or none. Raises AdminError when it does not answer."""
    after = 0
    for _ in range(_PAGES_MAX):
        answer = await switches.ask(path, timeout_s=limits.HOP_S, do="heard", after=after, limit=500)
        for row in answer["rows"]:
            if row[0] == terminal_id:
                return [dict(zip(contract.HEARD_COLUMNS, row, strict=False))]
        after = answer["next"]
        if not after:
            break
    return []
