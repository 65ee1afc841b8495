"""Signals that ask a command to leave, sent for real."""

import os
import signal

from intrinsic_cli.training.stop import on_signals


def test_a_signal_that_was_ignored_from_the_start_stays_so():
    """As a shell starts `command &` in a script, and `trap '' INT`."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with on_signals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop.requested
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
