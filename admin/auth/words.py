"""Words that a password must not consist of: the commonest ones, and what anybody would guess here."""

from typing import Final

COMMON: Final = ("password", "qwerty", "admin", "welcome", "letmein", "123456", "abc123", "111111", "88888")
CONTEXT: Final = (
    "gridswitch",
    "nanwang",
    "csg",
    "dianfei",
    "zhongduan",
    "jiaofei",
    "南网",
    "电费",
    "缴费",
    "终端",
    "电网",
)
