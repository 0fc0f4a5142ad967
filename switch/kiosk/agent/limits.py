"""Every bound of the agent, with its reason. Other modules import these names."""

from typing import Final

# What is kept until the service has it.
SPOOL_BYTES_MAX: Final = 50 * 1024 * 1024  # of events and sessions: a week with an event of 250 bytes every 3 s
SPOOL_DROP: Final = 200  # of the oldest at once when it is full
ITEM_BYTES_MAX: Final = 16 * 1024  # one event; twenty details of 500 characters have 12 KiB
BATCH_MAX: Final = 500  # the protocol's bound
BATCH_BYTES_MAX: Final = 200 * 1024  # below the protocol's 256 KiB, with room for the frame around it

# The line.
CONNECT_S: Final = 15.0  # TCP and TLS, over a modem that has just dialled
ANSWER_S: Final = 30.0
ANSWER_BYTES_MAX: Final = 1024 * 1024  # of any answer; twenty commands have 10 KiB
BACK_OFF_S: Final = 1.0  # after the first failure at most
BACK_OFF_MAX_S: Final = 300.0  # after many: a service that comes back meets a fleet spread over five minutes
REFUSED_S: Final = 300.0  # between tries of a kiosk that is refused for good: somebody may change that
RETRY_AFTER_MAX_S: Final = 3600.0  # a wrong Retry-After must not silence a kiosk for a day

# Beats.
BEAT_S: Final = 60.0  # until the service says otherwise
BEAT_MIN_S: Final = 1.0  # whatever it says
BEAT_MAX_S: Final = 3600.0
CHANGE_GAP_S: Final = 5.0  # a unit that changes is told at once, but a loose contact not a hundred times

# Certificates.
RENEW_DAYS: Final = 30  # before the end: from day 60 of 90
RENEW_CHECK_S: Final = 3600.0
POLL_S: Final = 10.0  # between questions whether a person has approved

# Commands.
COMMAND_AGE_MAX_S: Final = 24 * 3600.0  # no command may expire later than that from now
REMEMBERED_S: Final = 8 * 24 * 3600.0  # of each command's number; far longer than any may live
ORDERS_WAITING_MAX: Final = 20  # taken and not done; more wait at the service
BUSY_WAIT_S: Final = 15 * 60.0  # a reboot waits for the customer to leave, then it is refused
BUSY_LOOK_S: Final = 1.0
DO_S: Final = 10 * 60.0  # whatever a command does is given up after that
UPLOAD_PART: Final = 256 * 1024  # bytes: what a modem sends in a few seconds
UPLOAD_MAX: Final = 64 * 1024 * 1024
UPLOAD_TRIES: Final = 20  # failures in a row before the command fails

assert BATCH_BYTES_MAX > ITEM_BYTES_MAX
assert REMEMBERED_S > COMMAND_AGE_MAX_S
