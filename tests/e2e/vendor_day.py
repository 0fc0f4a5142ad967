"""A kiosk vendor's day, written from KIOSK_INTERFACE.md alone: raw sockets, the standard library, and a 3DES.

Nothing of this project is imported: what the document does not say, this program cannot know. First it builds the
requests of section 7 byte for byte, and checks the responses' MACs; then it spends a day at a switch.

    python vendor_day.py KIOSK_INTERFACE.md                           the vectors alone
    python vendor_day.py KIOSK_INTERFACE.md HOST PORT ACCOUNT…        and the day: accounts that owe something
"""

from __future__ import annotations

import datetime
import hashlib
import socket
import sys
import time
from pathlib import Path

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

BCD_VARIABLE = {2: 1, 35: 1, 60: 2}  # field: bytes of its length, which counts digits
BYTES_VARIABLE = {48: 2, 54: 2, 55: 2, 62: 2, 63: 2}  # counts bytes
BCD_FIXED = {3: 6, 4: 12, 11: 6, 12: 6, 13: 4, 14: 4, 15: 4, 22: 3, 25: 2, 26: 2, 53: 16}  # digits
BYTES_FIXED = {37: 12, 38: 6, 39: 2, 41: 8, 42: 15, 49: 3, 52: 8, 64: 8}
TEXT = (37, 38, 39, 41, 42, 49, 54, 63)


# ---------------------------------------------------------------------------------------------------- section 1
def packed(digits: str) -> bytes:
    return bytes.fromhex((digits + "0" * (len(digits) % 2)).replace("=", "D"))


def build(mti: str, fields: dict[int, object]) -> bytes:
    """TPDU, header and message; field 64 last if it is among the fields."""
    bitmap, body = 0, b""
    for number in sorted(fields):
        value = fields[number]
        bitmap |= 1 << (64 - number)
        if number in BCD_FIXED:
            body += packed(str(value).zfill(BCD_FIXED[number]))
        elif number in BCD_VARIABLE:
            size = str(len(str(value))).zfill(2 * BCD_VARIABLE[number])
            body += packed(size) + packed(str(value))
        else:
            data = value if isinstance(value, bytes) else str(value).encode("ascii")
            if number in BYTES_VARIABLE:
                body += packed(str(len(data)).zfill(2 * BYTES_VARIABLE[number]))
            body += data
    return bytes.fromhex("6000030000603100000000" + mti) + bitmap.to_bytes(8, "big") + body


def take_apart(message: bytes) -> dict[int, object]:
    """Fields of a message with TPDU and header; 0 is the MTI."""
    found: dict[int, object] = {0: message[11:13].hex()}
    bitmap = int.from_bytes(message[13:21], "big")
    at = 21
    for number in range(1, 65):
        if not bitmap >> (64 - number) & 1:
            continue
        if number in BCD_FIXED:
            size = (BCD_FIXED[number] + 1) // 2
            found[number] = message[at : at + size].hex()[: BCD_FIXED[number]]
        elif number in BCD_VARIABLE:
            digits = int(message[at : at + BCD_VARIABLE[number]].hex())
            at += BCD_VARIABLE[number]
            size = (digits + 1) // 2
            found[number] = message[at : at + size].hex()[:digits]
        else:
            if number in BYTES_VARIABLE:
                size = int(message[at : at + BYTES_VARIABLE[number]].hex())
                at += BYTES_VARIABLE[number]
            else:
                size = BYTES_FIXED[number]
            data = message[at : at + size]
            assert len(data) == size, f"field {number} is cut short"
            found[number] = data.decode("ascii") if number in TEXT else data
        at += size
    assert at == len(message), f"{len(message) - at} bytes too many"
    return found


# ---------------------------------------------------------------------------------------------------- section 3
def encrypt(key: bytes, data: bytes) -> bytes:
    encryptor = Cipher(TripleDES(key + key[:8]), modes.ECB()).encryptor()  # what the interface has
    return encryptor.update(data) + encryptor.finalize()


def decrypt(key: bytes, data: bytes) -> bytes:
    decryptor = Cipher(TripleDES(key + key[:8]), modes.ECB()).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def xor(left: bytes, right: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(left, right, strict=True))


def mac_of(key: bytes, data: bytes) -> bytes:
    data += bytes(-len(data) % 8)
    block = bytes(8)
    for at in range(0, len(data), 8):
        block = xor(block, data[at : at + 8])
    text = block.hex().upper().encode()
    return encrypt(key, xor(encrypt(key, text[:8]), text[8:])).hex().upper().encode()[:8]


def with_mac(key: bytes, message: bytes) -> bytes:
    """``message`` ends with an empty field 64."""
    return message[:-8] + mac_of(key, message[11:-8])


def pin_block(key: bytes, pin: str, pan: str) -> bytes:
    field = f"0{len(pin):X}{pin}".ljust(16, "F")
    return encrypt(key, xor(bytes.fromhex(field), bytes.fromhex("0000" + pan[-13:-1])))


# ---------------------------------------------------------------------------------------------------- section 5
def tlv(*pairs: tuple[str, bytes]) -> bytes:
    made = b""
    for tag, value in pairs:
        size = bytes([len(value)]) if len(value) < 128 else bytes([0x81, len(value)])
        made += bytes.fromhex(tag) + size + value
    return made


def read_tlv(data: bytes) -> list[tuple[str, bytes]]:
    found, at = [], 0
    while at < len(data):
        size = 2 if data[at] & 0x1F == 0x1F else 1
        tag = data[at : at + size].hex().upper()
        at += size
        length = data[at]
        at += 1
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[at : at + count], "big")
            at += count
        found.append((tag, data[at : at + length]))
        at += length
    return found


# ---------------------------------------------------------------------------------------------------- section 7
def read_vectors(document: str) -> dict[str, str]:
    part = document.split("<!-- made: vectors -->")[1].split("<!-- end -->", maxsplit=1)[0]
    lines = [line for line in part.splitlines() if " = " in line]
    return dict(line.split(" = ", 1) for line in lines)


def check_vectors(vectors: dict[str, str]) -> None:
    known = {
        name: bytes.fromhex(value)
        for name, value in vectors.items()
        if name not in ("terminal", "merchant", "pan", "pin", "account")
    }
    master = known["master_key"]
    keys = known["working_keys"]
    pin_key, mac_key = decrypt(master, keys[:16]), decrypt(master, keys[20:36])
    same("pin_key", pin_key, known["pin_key"])
    same("mac_key", mac_key, known["mac_key"])
    same("pin_key_kcv", encrypt(pin_key, bytes(8))[:4], keys[16:20])
    same("mac_key_kcv", encrypt(mac_key, bytes(8))[:4], keys[36:40])
    same("pin_block", pin_block(pin_key, vectors["pin"], vectors["pan"]), known["pin_block"])
    same("inquiry_mac", mac_of(mac_key, known["inquiry_mac_input"]), known["inquiry_mac"])
    who = {41: vectors["terminal"], 42: vectors["merchant"]}
    business = {**who, 13: "1123", 25: "00", 49: "156", 64: bytes(8)}
    card = {
        22: "021",
        26: "06",
        35: f"{vectors['pan']}=30121010000000000",
        52: known["pin_block"],
        53: "2600000000000000",
    }
    account = vectors["account"].encode()
    asked = tlv(("DF0C", b"000004"), ("DF0D", b"1123"))
    chosen = tlv(("DF01", account), ("DF02", b"Q00000000001"), ("DF11", b"0300000178202609"))
    requests: dict[str, tuple[str, dict[int, object]]] = {
        "inquiry": ("0200", {3: "310000", 11: "000003", 48: tlv(("DF01", account)), 60: "71000001000"}),
        "payment": ("0200", {3: "000000", 4: "10000", 11: "000004", 48: chosen, 60: "72000001000", **card}),
        "result": ("0200", {3: "310000", 11: "000005", 48: asked, 60: "75000001000"}),
        "reversal": ("0400", {3: "000000", 11: "000006", 48: asked, 60: "72000001000"}),
        "slip": ("0200", {3: "310000", 11: "000007", 48: asked, 60: "76000001000"}),
        "balance": ("0200", {3: "310000", 11: "000008", 60: "01000001000", **card}),
        "e_bill": (
            "0200",
            {
                3: "310000",
                11: "000010",
                48: tlv(("DF01", account), ("DF12", b"202610"), ("DF1C", b"2")),
                60: "74000001000",
            },
        ),
        "settlement": (
            "0500",
            {11: "000011", 48: tlv(("DF25", b"1123"), ("DF26", b"2"), ("DF27", b"15000")), 60: "00000001201"},
        ),
        "upload": (
            "0320",
            {11: "000012", 48: upload("000011", "1123", {"000004": 10_000, "000009": 5_000}), 60: "00000001201"},
        ),
        "upload_end": (
            "0320",
            {11: "000013", 48: tlv(("DF0C", b"000011"), ("DF0D", b"1123"), ("DF26", b"2")), 60: "00000001202"},
        ),
        "chip_word": (
            "0620",
            {
                11: "000021",
                48: asked,
                55: tlv(("9F27", b"\x40"), ("9F26", bytes(8)), ("9F36", b"\x00\x01"), ("95", bytes(5))),
                60: "77000001000",
            },
        ),
        "prepay": (
            "0200",
            {3: "000000", 4: "5000", 11: "000009", 48: tlv(("DF01", account)), 60: "73000001000", **card},
        ),
    }
    for name, (mti, fields) in requests.items():
        same(f"{name}_request", framed(with_mac(mac_key, build(mti, {**business, **fields}))), known[f"{name}_request"])
    sign_on = build("0800", {**who, 11: "000001", 60: "00000000003", 63: "001"})
    same("sign_on_request", framed(sign_on), known["sign_on_request"])
    same("echo_request", framed(build("0820", {**who, 11: "000002", 60: "00000001301"})), known["echo_request"])
    key_name = bytes.fromhex("9F0605A0000009999F220101")
    download = build("0800", {**who, 11: "000020", 60: "00000001370", 62: key_name, 64: bytes(8)})
    same("download_request", framed(with_mac(mac_key, download)), known["download_request"])
    for name in ("inquiry", "balance", "refusal", "e_bill", "settlement", "upload_end", "download"):
        message = known[f"{name}_response"][2:]
        same(f"the MAC of {name}_response", mac_of(mac_key, message[11:-8]), message[-8:])
    owed = take_apart(known["inquiry_response"][2:])
    assert (owed[0], owed[39], owed[4]) == ("0210", "00", "000000010000"), owed
    months = [dict(read_tlv(value)) for tag, value in read_tlv(bytes(owed[48])) if tag == "E1"]  # type: ignore[call-overload]
    assert [month["DF11"] for month in months] == [b"0300000178202609"]
    (month,) = months_of(read_tlv(bytes(take_apart(known["e_bill_response"][2:])[48])))  # type: ignore[call-overload]
    assert month["DF12"] == [b"202609"] and adds_up(month)


def upload(serial: str, date: str, paid: dict[str, int]) -> bytes:
    """Field 48 of an upload for the settlement with this key."""
    rows = [tlv(("DF2A", each.encode()), ("DF15", b"%d" % fen)) for each, fen in paid.items()]
    return tlv(("DF0C", serial.encode()), ("DF0D", date.encode()), *(("E5", row) for row in rows))


def months_of(pairs: list[tuple[str, bytes]]) -> list[dict[str, list[bytes]]]:
    """The months of an e-bill: each tag with all its values."""
    months = []
    for tag, value in pairs:
        if tag == "E2":
            month: dict[str, list[bytes]] = {}
            for inner, each in read_tlv(value):
                month.setdefault(inner, []).append(each)
            months.append(month)
    return months


def adds_up(month: dict[str, list[bytes]]) -> bool:
    """Principal and penalty make the amount; the steps make the principal, and energy as the meters do."""
    steps, meters = ([dict(read_tlv(each)) for each in month[tag]] for tag in ("E4", "E3"))
    principal, penalty, amount, energy = (int(month[tag][0]) for tag in ("DF13", "DF14", "DF15", "DF16"))
    return (
        principal + penalty == amount
        and sum(int(step["DF15"]) for step in steps) == principal
        and sum(int(step["DF16"]) for step in steps) == energy == sum(int(meter["DF16"]) for meter in meters)
        and all(float(meter["DF22"]) - float(meter["DF21"]) == int(meter["DF16"]) for meter in meters)
    )


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def same(name: str, made: bytes, expected: bytes) -> None:
    if made != expected:
        raise SystemExit(f"{name}: the document has {expected.hex()}, built from its words it is {made.hex()}")
    print(f"  {name}: as the document has it")


# ---------------------------------------------------------------------------------------------------- the day
class Kiosk:
    def __init__(self, host: str, port: int, vectors: dict[str, str]) -> None:
        self.address = host, port
        self.who: dict[int, object] = {41: vectors["terminal"], 42: vectors["merchant"]}
        self.master = bytes.fromhex(vectors["master_key"])
        self.pan = vectors["pan"]
        self.serial = 0
        self.paid: dict[str, int] = {}  # its own book: fen by serial
        self.batch = "000000"
        self.pin_key = self.mac_key = b""
        self.line = socket.create_connection(self.address, timeout=20)

    def connect(self) -> None:
        self.line.close()
        self.line = socket.create_connection(self.address, timeout=20)

    @property
    def today(self) -> str:
        china = datetime.timezone(datetime.timedelta(hours=8))
        return f"{datetime.datetime.now(china):%m%d}"

    @property
    def this_month(self) -> str:
        china = datetime.timezone(datetime.timedelta(hours=8))
        return f"{datetime.datetime.now(china):%Y%m}"

    def receive(self) -> bytes:
        data = b""
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            more = self.line.recv(4096)
            assert more, "the switch closed the connection"
            data += more
        assert len(data) == 2 + int.from_bytes(data[:2], "big"), "more than one response"
        return data[2:]

    def ask(
        self,
        mti: str,
        fields: dict[int, object],
        *,
        plain: bool = False,
        bare: bool = False,
        send_only: bool = False,
    ) -> dict[int, object]:
        """One request with the next serial, and its response with its MAC checked. ``bare``: no more than asked for."""
        self.serial += 1
        base = {**self.who, 11: f"{self.serial:06d}"}
        if bare:
            base[64] = bytes(8)
        elif not plain:
            base |= {13: self.today, 25: "00", 49: "156", 64: bytes(8)}
        message = build(mti, {**base, **fields})
        self.line.sendall(framed(message if plain else with_mac(self.mac_key, message)))
        if send_only:
            return {}
        response = self.receive()
        found = take_apart(response)
        assert found[0] == f"{int(mti) + 10:04d}" and found[11] == f"{self.serial:06d}", found
        if not plain:
            assert 64 in found, f"field 39 is {found[39]}: a response without MAC"
            same_mac = mac_of(self.mac_key, response[11:-8]) == response[-8:]
            assert same_mac, "the response's MAC is wrong"
        return found

    def sign_on(self) -> None:
        found = self.ask("0800", {60: "00000000003", 63: "001"}, plain=True)
        assert found[39] == "00", found
        keys = found[62]
        assert isinstance(keys, bytes) and len(keys) == 40
        self.pin_key, self.mac_key = decrypt(self.master, keys[:16]), decrypt(self.master, keys[20:36])
        assert encrypt(self.pin_key, bytes(8))[:4] == keys[16:20] and encrypt(self.mac_key, bytes(8))[:4] == keys[36:40]
        self.batch = str(found[60])[2:8]

    def public_keys(self) -> int:
        """Every public key that the acquirer has, each compared with its check value; how many."""
        listing: list[bytes] = []
        status = b"2"
        while status == b"2":
            found = self.ask("0820", {60: f"00{self.batch}372", 62: b"1%02d" % len(listing)}, bare=True)
            assert found[39] == "00", found
            page = bytes(found[62])  # type: ignore[call-overload]
            status = page[:1]
            names = read_tlv(page[1:])
            for at, (tag, value) in enumerate(names):
                if tag == "9F06":
                    assert names[at + 1][0] == "9F22"
                    listing.append(tlv((tag, value), names[at + 1]))
        for name in listing:
            found = self.ask("0800", {60: f"00{self.batch}370", 62: name}, bare=True)
            key = dict(read_tlv(bytes(found[62])[1:]))  # type: ignore[call-overload]
            covered = key["9F06"] + key["9F22"] + key["DF02"] + key["DF04"]
            assert found[39] == "00" and hashlib.sha1(covered).digest() == key["DF03"]
        assert self.ask("0800", {60: f"00{self.batch}371"}, bare=True)[39] == "00"
        return len(listing)

    def card(self) -> dict[int, object]:
        block = pin_block(self.pin_key, "123456", self.pan)
        return {22: "021", 26: "06", 35: f"{self.pan}=30121010000000000", 52: block, 53: "2600000000000000"}

    def about(self, serial: int) -> bytes:
        return tlv(("DF0C", f"{serial:06d}".encode()), ("DF0D", self.today.encode()))

    def inquire(self, account: str) -> tuple[str, dict[str, bytes], list[dict[str, bytes]]]:
        found = self.ask("0200", {3: "310000", 48: tlv(("DF01", account.encode())), 60: f"71{self.batch}000"})
        pairs = read_tlv(bytes(found[48]))  # type: ignore[call-overload]
        return str(found[39]), dict(pairs), [dict(read_tlv(value)) for tag, value in pairs if tag == "E1"]

    def pay(self, account: str, *, send_only: bool = False) -> tuple[dict[int, object], int]:
        code, tags, months = self.inquire(account)
        assert code == "00", (account, code)
        amount = sum(int(month["DF15"]) for month in months)
        chosen = tlv(("DF01", account.encode()), ("DF02", tags["DF02"]), *(("DF11", month["DF11"]) for month in months))
        fields = {3: "000000", 4: f"{amount}", 48: chosen, 60: f"72{self.batch}000", **self.card()}
        found = self.ask("0200", fields, send_only=send_only)
        self.paid[f"{self.serial:06d}"] = amount if found.get(39) == "00" else 0
        return found, self.serial

    def settle(self, day: str, paid: dict[str, int]) -> tuple[str, dict[str, bytes], str]:
        totals = tlv(("DF25", day.encode()), ("DF26", b"%d" % len(paid)), ("DF27", b"%d" % sum(paid.values())))
        found = self.ask("0500", {48: totals, 60: f"00{self.batch}201"})
        return str(found[39]), dict(read_tlv(bytes(found[48]))), f"{self.serial:06d}"  # type: ignore[call-overload]

    def result(self, serial: int, mti: str = "0200", business: str = "75") -> tuple[str, dict[str, bytes]]:
        code = "310000" if mti == "0200" else "000000"
        found = self.ask(mti, {3: code, 48: self.about(serial), 60: f"{business}{self.batch}000"})
        tags = dict(read_tlv(bytes(found[48])))  # type: ignore[call-overload]
        return str(found[39]), {**tags, "amount": str(found.get(4, 0)).encode()}


def spend_a_day(kiosk: Kiosk, accounts: list[str]) -> None:
    first, second, third = accounts
    kiosk.sign_on()
    done("signed on, both check values right")
    assert kiosk.ask("0820", {60: f"00{kiosk.batch}301"}, plain=True)[39] == "00"
    done("echo test")
    done(f"{kiosk.public_keys()} public keys of card schemes, each with its check value")
    found, paid = kiosk.pay(first)
    assert found[39] == "00", found
    reference = dict(read_tlv(bytes(found[48])))["DF0F"]  # type: ignore[call-overload]
    done(f"paid all months of {first}: reference {reference.decode()}")
    code, _, _ = kiosk.inquire(first)
    assert code == "E2", code
    done("it owes nothing any more")
    code, tags = kiosk.result(paid)
    assert code == "00" and tags["DF0F"] == reference
    done("the result inquiry says the same")
    code, tags = kiosk.result(paid, business="76")
    assert code == "00" and tags["DF18"].decode().endswith(kiosk.pan[-4:]) and "*" in tags["DF18"].decode()
    done(f"the slip again: card {tags['DF18'].decode()}")
    code, _ = kiosk.result(paid, mti="0400", business="72")
    assert code == "00", "what is paid stays paid"
    done("a reversal comes too late, and is told how it stands")
    found = kiosk.ask("0200", {3: "310000", 60: f"01{kiosk.batch}000", **kiosk.card()})
    assert found[39] == "00" and len(str(found[54])) == 20
    done("the card's balance")
    pages = 0
    newest, seen = kiosk.this_month, list[str]()
    while newest:
        fields: dict[int, object] = {
            3: "310000",
            48: tlv(("DF01", first.encode()), ("DF12", newest.encode())),
            60: f"74{kiosk.batch}000",
        }
        found = kiosk.ask("0200", fields)
        assert found[39] == "00", found
        pairs = read_tlv(bytes(found[48]))  # type: ignore[call-overload]
        months = months_of(pairs)
        assert months and all(adds_up(month) for month in months)
        seen += [month["DF12"][0].decode() for month in months]
        newest = dict(pairs).get("DF24", b"").decode()
        pages += 1
    assert seen == sorted(set(seen), reverse=True) and len(seen) == 24, seen
    done(f"e-bills of {len(seen)} months on {pages} pages, every sum right")
    found = kiosk.ask(
        "0200", {3: "000000", 4: "5000", 48: tlv(("DF01", first.encode())), 60: f"73{kiosk.batch}000", **kiosk.card()}
    )
    assert found[39] == "00", found
    kiosk.paid[f"{kiosk.serial:06d}"] = 5000
    done("50.00 yuan in advance")
    _, lost = kiosk.pay(second, send_only=True)
    kiosk.connect()
    done("the line is cut with a payment under way")
    kiosk.sign_on()
    for _ in range(60):
        code, tags = kiosk.result(lost)
        if code not in ("U1", "B1", "R1", "09"):
            break
        time.sleep(0.5)
    assert code in ("00", "R2"), code
    kiosk.paid[f"{lost:06d}"] = int(tags["amount"]) if code == "00" else 0
    done(f"signed on again, and heard what became of it: {code}")
    code, _ = kiosk.result(777_777)
    assert code == "25", code
    done("of what never was: 25")
    code, _ = kiosk.result(888_888, mti="0400", business="72")
    assert code == "25", code
    done("and never will be, after a reversal")
    wrong, kiosk.mac_key = kiosk.mac_key, bytes(16)
    try:
        kiosk.inquire(third)
    except AssertionError as error:
        assert "field 39 is A0" in str(error), error
    kiosk.mac_key = wrong
    done("a wrong MAC is told: A0")
    found, _ = kiosk.pay(third)
    assert found[39] == "00", found
    done(f"paid all months of {third}")
    settle_the_day(kiosk, {serial: fen for serial, fen in kiosk.paid.items() if fen})
    assert kiosk.ask("0820", {60: f"00{kiosk.batch}002"}, plain=True)[39] == "00"
    done("signed off")


def settle_the_day(kiosk: Kiosk, paid: dict[str, int]) -> None:
    day = kiosk.today
    code, tags, _ = kiosk.settle(day, paid)
    assert code == "00" and int(tags["DF28"]) == len(paid), (code, tags)
    done(f"settled the day: {len(paid)} payments, both agree")
    wrong = {**paid, "777777": 500}
    del wrong[min(paid)]
    code, tags, serial = kiosk.settle(day, wrong)
    assert code == "B3", code
    found = kiosk.ask("0320", {48: upload(serial, day, wrong), 60: f"00{kiosk.batch}201"})
    assert found[39] == "00", found
    end = tlv(("DF0C", serial.encode()), ("DF0D", day.encode()), ("DF26", b"%d" % len(wrong)))
    found = kiosk.ask("0320", {48: end, 60: f"00{kiosk.batch}202"})
    pairs = read_tlv(bytes(found[48]))  # type: ignore[call-overload]
    rows = [dict(read_tlv(value)) for tag, value in pairs if tag == "E6"]
    assert found[39] == "B4" and dict(pairs)["DF2B"] == b"2", found
    assert {row["DF2A"].decode(): row["DF2C"] for row in rows} == {min(paid): b"journal_only", "777777": b"kiosk_only"}
    done("settled it once more with a wrong book: both differences came back")


def done(what: str) -> None:
    print(f"  {what}")


def main() -> None:
    vectors = read_vectors(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print("vectors:")
    check_vectors(vectors)
    if len(sys.argv) > 2:
        print("the day:")
        spend_a_day(Kiosk(sys.argv[2], int(sys.argv[3]), vectors), sys.argv[4:])
    print("all of it as the document says")


if __name__ == "__main__":
    main()
