"""`python -m intrinsic_cli` is `idim`."""

import os
import signal
import sys

# Before numpy is imported. The statistics' matrices are small: threads take more time to meet than to multiply.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `main` answers it: no traceback out of an import

from intrinsic_cli.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
