"""What every test relies on."""

import signal

# A process started in the background may ignore Ctrl-C, and its children with it: tests that send it would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)
