"""The reference agent of a kiosk: it tells the admin service how the kiosk is, and does what it is told.

Start here: ``Agent`` (agent.py), the ports ``Units`` and ``Hands`` (ports.py). The protocol stands in
``admin/README.md``, "Device API". Nothing here knows how the service works, or is on the path of a payment.
"""
