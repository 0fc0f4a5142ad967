"""``python -m iso8583``."""

import sys

from iso8583.cli import main

sys.exit(main())
