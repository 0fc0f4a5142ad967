"""Code tables: every row is what it should be, samples by hand, and what the loader refuses."""

import re
from typing import Any

import pytest

import iso8583
from iso8583 import codes, specfile

TABLES = [
    "account_types",
    "action_codes_1993",
    "condition_codes",
    "currencies",
    "emv_bits",
    "emv_tags",
    "entry_modes",
    "message_types",
    "network_codes",
    "network_codes_cups",
    "processing_codes",
    "response_codes",
    "response_codes_1987",
    "transaction_codes",
    "transaction_types",
]

# ISO 4217 gives these no minor unit: units of account, metals, testing, no currency.
WITHOUT_MINOR_UNIT = {"XBA", "XBB", "XBC", "XBD", "XAU", "XDR", "XAG", "XPT", "XTS", "XPD", "XUA", "XSU", "XXX"}
NOT_TWO_DIGITS = {
    0: {"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF"}
    | {"XPF"},
    3: {"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"},
    4: {"CLF", "UYW"},
}


# ------------------------------------------------------------------------------------------------ all tables


def test_the_tables_are_these_and_specs_name_no_other() -> None:
    assert list(codes.table_names()) == TABLES
    for spec in specfile.bundled_names():
        for field in iso8583.load(spec).fields.values():
            assert field.codes is None or codes.load_table(field.codes)


def pieces(table: codes.Table) -> list[codes.Code]:
    return [*table.codes.values(), *(code for part in table.parts for code in part.codes.values())]


@pytest.mark.parametrize("name", TABLES)
def test_every_code_has_words_in_both_languages_and_the_table_a_source(name: str) -> None:
    table = codes.load_table(name)
    assert table.name == name and table.source
    assert pieces(table)
    for code in pieces(table):
        assert re.search("[\u4e00-\u9fff]", code.zh), f"{code.code}: {code.zh}"
        # í: the name of a coin
        assert re.fullmatch(r"[ -~í]*[A-Za-z][ -~í]*", code.en), f"{code.code}: {code.en}"
        assert code.zh == code.zh.strip() and code.en == code.en.strip()
        assert "  " not in code.en and not re.search("[,;()]", code.zh), f"{code.code}: {code.zh}"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("account_types", r"\d\d"),
        ("action_codes_1993", r"\d{3}"),
        ("condition_codes", r"\d\d"),
        ("network_codes", r"\d{3}"),
        ("network_codes_cups", r"\d{3}"),
        ("processing_codes", r"\d{6}"),
        ("response_codes", r"\d\d|A\d"),
        ("response_codes_1987", r"\d\d"),
        ("transaction_codes", r"\d\d"),
        ("transaction_types", r"\d\d"),
    ],
)
def test_codes_are_as_long_as_their_field_and_in_order(name: str, shape: str) -> None:
    found = list(codes.load_codes(name))
    assert found == sorted(found)
    assert [code for code in found if not re.fullmatch(shape, code)] == []


def test_tables_cannot_be_changed() -> None:
    table: Any = codes.load_codes("response_codes")
    with pytest.raises(TypeError):
        table["51"] = codes.Code("51", "", "")


# ------------------------------------------------------------------------------------------------ meanings


@pytest.mark.parametrize(
    ("table", "code", "text"),
    [
        ("response_codes", "51", "余额不足 insufficient funds"),
        ("response_codes", "A0", "MAC鉴别失败 MAC error"),
        ("response_codes_1987", "91", "发卡方或交换中心不能操作 issuer or switch is inoperative"),
        ("action_codes_1993", "116", "余额不足 not sufficient funds"),
        ("action_codes_1993", "400", "冲正或退单已接受 reversal or chargeback accepted"),
        ("currencies", "156", "人民币 CNY"),
        ("condition_codes", "06", "预授权 pre-authorization"),
        ("network_codes", "003", "签到（双倍长密钥） sign-on, double-length keys"),
        ("network_codes_cups", "101", "重置密钥 key reset"),
        ("transaction_codes", "22", "消费 purchase"),
        ("processing_codes", "000000", "消费 purchase"),
        ("processing_codes", "301000", "可用余额查询（储蓄账户） available funds inquiry (savings account)"),
        ("processing_codes", "003000", "消费（信用账户） purchase (credit account)"),
        ("processing_codes", "210020", "存款，转入支票账户 deposit, to cheque account"),
        ("processing_codes", "010000", "取现 cash withdrawal"),
        ("entry_modes", "021", "磁条，有密码 magnetic stripe, with PIN"),
        ("entry_modes", "072", "非接触IC卡（快速），无密码 contactless chip, without PIN"),
        ("message_types", "0210", "金融请求应答 financial response"),
        ("message_types", "0421", "冲正通知，重发 reversal advice, repeated"),
        ("message_types", "1804", "1993版网络管理请求，其他方发起 ISO 1993 network management request, other"),
    ],
)
def test_a_code_has_a_meaning_in_two_languages(table: str, code: str, text: str) -> None:
    assert codes.meaning(table, code) == text


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ("response_codes", "ZZ"),
        ("response_codes", ""),
        ("processing_codes", "990000"),  # no such transaction
        ("processing_codes", "009900"),  # no such account
        ("processing_codes", "0000"),
        ("processing_codes", "0000000"),
        ("processing_codes", ""),
        ("entry_modes", "02"),
        ("message_types", "0010"),
        ("emv_tags", "9f02"),
    ],
)
def test_an_unknown_code_means_nothing(table: str, code: str) -> None:
    assert codes.meaning(table, code) == ""
    assert codes.find(table, code) is None


def test_composed_codes_carry_both_languages_apart() -> None:
    assert codes.find("processing_codes", "401030") == codes.Code(
        "401030", "账户间转账（储蓄账户），转入信用账户", "account transfer (savings account), to credit account"
    )


@pytest.mark.parametrize("kind", ["01", "02", "03", "04", "05", "06", "08"])
@pytest.mark.parametrize("function", "0123")
def test_every_mti_that_unionpay_uses_has_a_meaning(kind: str, function: str) -> None:
    assert codes.meaning("message_types", f"{kind}{function}0")


# ------------------------------------------------------------------------------------------------ currencies


def test_currencies_are_those_of_iso_4217_with_their_minor_units() -> None:
    found = [codes.currency(code) for code in codes.load_codes("currencies")]
    currencies = [currency for currency in found if currency is not None]
    assert len(currencies) == len(found) == 178
    assert len({currency.alpha for currency in currencies}) == 178
    assert [currency.code for currency in currencies] == sorted(currency.code for currency in currencies)
    exponents = {currency.alpha: currency.exponent for currency in currencies}
    assert {alpha for alpha, exponent in exponents.items() if exponent is None} == WITHOUT_MINOR_UNIT
    assert all(exponent is None or 0 <= exponent <= 4 for exponent in exponents.values())
    for exponent in (0, 3, 4):
        assert {alpha for alpha, digits in exponents.items() if digits == exponent} == NOT_TWO_DIGITS[exponent]


@pytest.mark.parametrize(
    ("code", "alpha", "exponent", "zh", "en"),
    [
        ("156", "CNY", 2, "人民币", "Yuan Renminbi"),
        ("344", "HKD", 2, "港元", "Hong Kong Dollar"),
        ("392", "JPY", 0, "日元", "Yen"),
        ("410", "KRW", 0, "韩元", "Won"),
        ("414", "KWD", 3, "科威特第纳尔", "Kuwaiti Dinar"),
        ("446", "MOP", 2, "澳门元", "Pataca"),
        ("643", "RUB", 2, "俄罗斯卢布", "Russian Ruble"),
        ("704", "VND", 0, "越南盾", "Dong"),
        ("826", "GBP", 2, "英镑", "Pound Sterling"),
        ("840", "USD", 2, "美元", "US Dollar"),
        ("901", "TWD", 2, "新台币", "New Taiwan Dollar"),
        ("978", "EUR", 2, "欧元", "Euro"),
        ("990", "CLF", 4, "智利发展单位", "Unidad de Fomento"),
        ("959", "XAU", None, "黄金", "Gold"),
    ],
)
def test_currency_samples(code: str, alpha: str, exponent: int | None, zh: str, en: str) -> None:
    assert codes.currency(code) == codes.Currency(code=code, zh=zh, en=en, alpha=alpha, exponent=exponent)


def test_there_is_no_currency_for_retired_and_unknown_codes() -> None:
    for code in ("191", "975", "000", "CNY", ""):  # kuna and lev have become the euro
        assert codes.currency(code) is None


# ------------------------------------------------------------------------------------------------ chip data


def is_ber_tag(tag: str) -> bool:
    """A second way to say what a tag is: bytes instead of a regular expression."""
    data = bytes.fromhex(tag)
    if data[0] & 0x1F != 0x1F:
        return len(data) == 1
    return len(data) > 1 and all(byte & 0x80 for byte in data[1:-1]) and not data[-1] & 0x80


def test_every_tag_is_a_ber_tag_and_the_constructed_ones_are_templates() -> None:
    for tag in codes.load_codes("emv_tags"):
        entry = codes.emv_tag(tag)
        assert entry is not None
        assert tag == tag.upper() and is_ber_tag(tag), tag
        assert (entry.format == "template") == bool(bytes.fromhex(tag)[0] & 0x20), tag


@pytest.mark.parametrize(
    ("tag", "zh", "format_"),
    [
        ("5A", "应用主账号", "cn 1-19"),
        ("82", "应用交互特征（AIP）", "b 2"),
        ("8C", "卡片风险管理数据对象列表1（CDOL1）", "dol"),
        ("95", "终端验证结果（TVR）", "b 5"),
        ("9A", "交易日期（YYMMDD）", "n 6"),
        ("5F2A", "交易货币代码", "n 3"),
        ("9F02", "授权金额（数值型）", "n 12"),
        ("9F1E", "接口设备（IFD）序列号", "an 8"),
        ("9F26", "应用密文（AC）", "b 8"),
        ("9F36", "应用交易计数器（ATC）", "b 2"),
        ("9F79", "电子现金余额（PBOC）；非保护数据信封5（内核2）", ""),
        ("DF31", "发卡行脚本结果", "b 1-21"),
        ("DF8129", "结果参数集", "b 8"),
        ("BF0C", "FCI发卡行自定义数据", "template"),
    ],
)
def test_tag_samples(tag: str, zh: str, format_: str) -> None:
    entry = codes.emv_tag(tag)
    assert entry is not None
    assert (entry.code, entry.zh, entry.format) == (tag, zh, format_)


def test_all_tags_that_unionpay_terminals_send_are_known() -> None:
    request = "9F26 9F27 9F10 9F37 9F36 95 9A 9C 9F02 5F2A 82 9F1A 9F03 9F33 9F34 9F35 9F1E 84 9F09 9F41 9F63 8A 9F74"
    response = "91 71 72 DF31 DF32 DF33 DF34"
    keys = "9F06 9F22 DF05 DF06 DF07 DF02 DF04 DF03"
    parameters = "DF01 9F08 DF11 DF12 DF13 9F1B DF15 DF16 DF17 DF14 DF18 9F7B DF19 DF20 DF21"
    for tag in f"{request} {response} {keys} {parameters}".split():
        assert codes.emv_tag(tag), tag
    assert codes.emv_tag("DF7F") is None


BYTES = {
    "82": 2,
    "95": 5,
    "9B": 2,
    "9F07": 2,
    "9F27": 1,
    "9F33": 3,
    "9F34": 3,
    "9F35": 1,
    "9F40": 5,
    "9F66": 4,
    "9F6C": 2,
}


def test_bit_rows_lie_inside_their_objects_and_in_order() -> None:
    keys = list(codes.load_codes("emv_bits"))
    assert {key.partition(".")[0] for key in keys} == set(BYTES)
    for tag, size in BYTES.items():
        entry = codes.emv_tag(tag)
        assert entry is not None and entry.format in {f"b {size}", "n 2", ""}
        positions = [int(key.split(".")[1]) for key in keys if key.startswith(f"{tag}.")]
        assert positions == sorted(positions) and max(positions) <= size
        assert not codes.explain_bits(tag, b"")
        # Bytes too many are nobody's: they say nothing and stop nothing.
        assert codes.explain_bits(tag, bytes(size)) == codes.explain_bits(tag, bytes(size) + b"\xff")


def english(tag: str, value: str) -> list[str]:
    return [entry.en for entry in codes.explain_bits(tag, bytes.fromhex(value))]


@pytest.mark.parametrize(
    ("tag", "value", "texts"),
    [
        ("95", "0000000000", []),
        ("95", "8000048000", ["offline data authentication was not performed", "online PIN entered",
                              "transaction exceeds floor limit"]),
        ("95", "0840201040", ["DDA failed", "expired application", "PIN try limit exceeded",
                              "transaction selected randomly for online processing", "issuer authentication failed"]),
        ("9B", "E800", ["offline data authentication was performed", "cardholder verification was performed",
                        "card risk management was performed", "terminal risk management was performed"]),
        ("9B", "0400", ["script processing was performed"]),
        ("82", "7C00", ["SDA supported", "DDA supported", "cardholder verification supported",
                        "terminal risk management to be performed", "issuer authentication supported"]),
        ("82", "0180", ["CDA supported", "contactless EMV mode supported"]),
        ("9F27", "00", ["AAC: declined"]),
        ("9F27", "40", ["TC: approved offline"]),
        ("9F27", "80", ["ARQC: online authorisation requested"]),
        ("9F27", "0B", ["AAC: declined", "advice required", "reason: issuer authentication failed"]),
        ("9F27", "C0", []),
        ("9F33", "E0F0C8", ["manual key entry", "magnetic stripe", "IC with contacts",
                            "plaintext PIN for ICC verification", "enciphered PIN for online verification", "signature",
                            "enciphered PIN for offline verification (RSA)", "SDA", "DDA", "CDA"]),
        ("9F34", "420300", ["apply succeeding rule if unsuccessful", "enciphered PIN verified online",
                            "condition: terminal supports the CVM", "result: unknown"]),
        ("9F34", "1F0002", ["no CVM required", "condition: always", "result: successful"]),
        ("9F34", "3F0001", ["no CVM performed", "condition: always", "result: failed"]),
        ("9F34", "7F0000", ["apply succeeding rule if unsuccessful", "condition: always", "result: unknown"]),
        ("9F35", "22", ["operated by a merchant", "attended, offline with online capability"]),
        ("9F35", "34", ["operated by the cardholder", "unattended, online only"]),
        ("9F40", "6000F00001", ["goods", "services", "numeric keys", "alphabetic and special character keys",
                                "command keys", "function keys", "code table 1"]),
        ("9F07", "FF00", ["valid for domestic cash transactions", "valid for international cash transactions",
                          "valid for domestic goods", "valid for international goods", "valid for domestic services",
                          "valid for international services", "valid at ATMs", "valid at terminals other than ATMs"]),
        ("9F66", "2600C080", ["EMV mode supported (UnionPay: qPBOC)", "online PIN supported", "signature supported",
                              "issuer update processing supported", "consumer device CVM supported",
                              "fDDA v1.0 supported"]),
        ("9F6C", "8080", ["online PIN required", "consumer device CVM performed"]),
        ("9F02", "000000001250", []),
        ("9F", "FFFFFFFFFF", []),
    ],
)  # fmt: skip
def test_bits_are_explained_byte_by_byte(tag: str, value: str, texts: list[str]) -> None:
    assert english(tag, value) == texts


def test_explained_bits_say_where_they_stand() -> None:
    assert codes.explain_bits("95", bytes.fromhex("0000080000")) == [
        codes.Code(
            "95.3.xxxx1xxx",
            "要求输入PIN，密码键盘存在，但未输入PIN",
            "PIN entry required, PIN pad present, but PIN was not entered",
        )
    ]


# ------------------------------------------------------------------------------------------------ the loader


@pytest.mark.parametrize("name", ["nowhere", "../specs/kiosk", ""])
def test_unknown_tables_are_refused(name: str) -> None:
    with pytest.raises(iso8583.SpecError, match="no such code table; there are account_types, "):
        codes.load_codes(name)


def test_a_table_can_be_read_from_text() -> None:
    table = codes.parse_table("acquirer", 'source = "acquirer"\n[codes]\nD5 = ["一", "one"]')
    assert table.source == "acquirer"
    assert table.codes == {"D5": codes.Code("D5", "一", "one")}


HEAD = 'source = "s"\n'
PART = f"{HEAD}[[parts]]\n"


@pytest.mark.parametrize(
    ("name", "text", "key", "detail"),
    [
        ("plain", "codes = {", "", "not TOML"),
        ("plain", f'{HEAD}[codes]\n00 = ["一", "one"]\n00 = ["二", "two"]', "", "not TOML"),  # twice
        ("plain", '[codes]\n00 = ["一", "one"]', "source", "missing"),
        ("plain", 'source = " "\n[codes]\n00 = ["一", "one"]', "source", "missing"),
        ("plain", "source = 1\n[codes]", "source", "missing"),
        ("plain", HEAD, "codes", "missing"),
        ("plain", f"{HEAD}note = 1\n[codes]", "note", "expected source, codes and parts only"),
        ("plain", f"{HEAD}codes = 1", "codes", "expected a code in upper case = "),
        ("plain", f'{HEAD}[codes]\n00 = "one"', "codes.00", "expected a code in upper case = "),
        ("plain", f'{HEAD}[codes]\n00 = ["one"]', "codes.00", "expected a code in upper case = "),
        ("plain", f'{HEAD}[codes]\n00 = ["一", "one", "more"]', "codes.00", "expected a code in upper case = "),
        ("plain", f'{HEAD}[codes]\n00 = ["一", 1]', "codes.00", "expected a code in upper case = "),
        ("plain", f'{HEAD}[codes]\n00 = ["", "one"]', "codes.00", "expected a code in upper case = "),
        ("plain", f'{HEAD}[codes]\n00 = ["一", " "]', "codes.00", "expected a code in upper case = "),
        ("plain", f'{HEAD}[codes]\na0 = ["一", "one"]', "codes.a0", "expected a code in upper case = "),
        ("plain", f'{HEAD}[codes.00]\n1 = ["一", "one"]', "codes.00.1", "expected a code in upper case = "),
        ("emv_tags", f'{HEAD}[codes]\n9f02 = ["一", "one"]', "codes.9f02", "expected a BER tag"),
        ("emv_tags", f'{HEAD}[codes]\n9F = ["一", "one"]', "codes.9F", "expected a BER tag"),
        ("emv_tags", f'{HEAD}[codes]\n9F81 = ["一", "one"]', "codes.9F81", "expected a BER tag"),
        ("emv_tags", f'{HEAD}[codes]\n9F0202 = ["一", "one"]', "codes.9F0202", "expected a BER tag"),
        ("emv_tags", f'{HEAD}[codes]\n8202 = ["一", "one"]', "codes.8202", "expected a BER tag"),
        ("emv_tags", f'{HEAD}[codes]\n82 = ["一", "one", "x 2"]', "codes.82", "expected a BER tag"),
        ("emv_tags", f'{HEAD}[codes]\n82 = ["一", "one", "b 0"]', "codes.82", "expected a BER tag"),
        ("emv_tags", f'{HEAD}[codes]\n82 = ["一", "one", "b 2", ""]', "codes.82", "expected a BER tag"),
        ("emv_bits", f'{HEAD}[codes.95]\n1.80 = ["一", "one"]', "codes.95.1.80", "expected tag.byte.pattern"),
        (
            "emv_bits",
            f'{HEAD}[codes.95]\n0.1xxxxxxx = ["一", "one"]',
            "codes.95.0.1xxxxxxx",
            "expected tag.byte.pattern",
        ),
        (
            "emv_bits",
            f'{HEAD}[codes.95]\n1.xxxxxxxx = ["一", "one"]',
            "codes.95.1.xxxxxxxx",
            "expected tag.byte.pattern",
        ),
        ("currencies", f'{HEAD}[codes]\n15 = ["一", "one", "CNY", 2]', "codes.15", "expected three digits"),
        ("currencies", f'{HEAD}[codes]\n156 = ["一", "one"]', "codes.156", "expected three digits"),
        ("currencies", f'{HEAD}[codes]\n156 = ["一", "one", "cny", 2]', "codes.156", "expected three digits"),
        ("currencies", f'{HEAD}[codes]\n156 = ["一", "one", "CNY", 5]', "codes.156", "expected three digits"),
        ("currencies", f'{HEAD}[codes]\n156 = ["一", "one", "CNY", -1]', "codes.156", "expected three digits"),
        ("currencies", f'{HEAD}[codes]\n156 = ["一", "one", "CNY", "2"]', "codes.156", "expected three digits"),
        ("plain", f"{HEAD}parts = 1", "parts", "expected [[parts]]"),
        ("plain", f"{HEAD}parts = [1]", "parts.1", "expected a table"),
        ("plain", f'{PART}table = "account_types"', "parts.1.digits", "expected how many characters"),
        ("plain", f'{PART}digits = 0\ntable = "account_types"', "parts.1.digits", "expected how many characters"),
        ("plain", f"{PART}digits = 2", "parts.1.table", "expected the name of a table, or the codes"),
        (
            "plain",
            f'{PART}digits = 2\ntable = "account_types"\ncodes = {{}}',
            "parts.1.table",
            "expected the name of a table",
        ),
        (
            "plain",
            f'{PART}digits = 2\ntable = "nowhere"',
            "parts.1.table",
            "expected the name of another bundled table",
        ),
        (
            "account_types",
            f'{PART}digits = 2\ntable = "account_types"',
            "parts.1.table",
            "expected the name of another",
        ),
        ("plain", f'{PART}digits = 2\ntable = "account_types"\nzh = "从"', "parts.1.zh", "expected text"),
        ("plain", f'{PART}digits = 2\ntable = "account_types"\nen = 1', "parts.1.en", "expected text"),
        ("plain", f'{PART}digits = 2\ntable = "account_types"\nsilent = 0', "parts.1.silent", "expected text"),
        ("plain", f'{PART}digits = 2\ntable = "account_types"\nwidth = 2', "parts.1.width", "expected digits, table"),
        ("plain", f'{PART}digits = 2\n[parts.codes]\n0 = ["零"]', "parts.1.codes.0", "expected a code in upper case"),
    ],
)
def test_a_malformed_table_is_refused_by_file_and_key(name: str, text: str, key: str, detail: str) -> None:
    with pytest.raises(iso8583.SpecError) as caught:
        codes.parse_table(name, text)
    assert (caught.value.source, caught.value.key) == (f"{name}.toml", key)
    assert caught.value.detail.startswith(detail)
