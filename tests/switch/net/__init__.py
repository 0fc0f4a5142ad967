"""Real sockets on loopback, on asyncio's loop and on uvloop."""
