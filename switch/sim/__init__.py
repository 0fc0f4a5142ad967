"""Simulators: the card host, the marketing system and the kiosks, each written from its interface document alone.

They share no code with the dialects and machines of the switch, so that a misreading on one side shows on the other.
"""
