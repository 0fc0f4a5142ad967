"""gridswitch: the payment front-end between self-service kiosks, UnionPay and the utility's marketing system."""

__version__ = "0.1.0"
