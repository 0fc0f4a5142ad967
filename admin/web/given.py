"""What handlers are given by name: ``access: Who, database: Data``, and numbers of the path: ``kiosk_id: Number``."""

from __future__ import annotations

from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import PathParameter

from admin.auth.password import Passwords
from admin.auth.permissions import Access
from admin.auth.secrets import Secrets
from admin.auth.signin import SignIn
from admin.config import Config
from admin.control import Switches
from admin.db.pool import Database

Who = NamedDependency[Access]
Data = NamedDependency[Database]
Own = NamedDependency[Secrets]
Hashing = NamedDependency[Passwords]
Doors = NamedDependency[SignIn]
Sockets = NamedDependency[Switches]
Options = NamedDependency[Config]
# A row's number: what no row can have is refused before a statement sees it.
Number = Annotated[int, PathParameter(ge=1, le=2**63 - 1)]
