"""The simulators over real sockets, with hand-made messages on the other side."""
