"""What this slice's handlers are given by name, beyond ``web/given.py``."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.di import NamedDependency

from admin.control import Switches
from admin.devices.trust.authority import Authority
from admin.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Signing:
    """The device CA, if this service has one."""

    authority: Authority | None = None

    def need(self) -> Authority:
        """Raises UnavailableError ``no_device_ca``."""
        if self.authority is None:
            raise UnavailableError(
                "no_device_ca", "设备接口没有启用，不能签发证书", hint="请系统管理员配置 device_api 并重启管理端"
            )
        return self.authority


Switch = NamedDependency[Switches]
Signer = NamedDependency[Signing]
