"""The copy of the switch's payments that searches and reports read."""
