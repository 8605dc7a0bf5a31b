"""What the tests take for granted of the process that they run in."""

import signal

# A shell has what it starts in the background ignore SIGINT, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
