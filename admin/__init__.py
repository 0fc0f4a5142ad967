"""The admin service, for the people who run the kiosks. Its door into the switch is switch/contract.py alone."""
