"""gridswitch: the payment front-end between self-service kiosks, UnionPay and the utility's marketing system."""

from switch import interpreted

__version__ = "0.1.0"
INTERPRETED = interpreted.choose()
