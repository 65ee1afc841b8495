"""`python -m intrinsic_cli` is `idim`."""

import sys

from intrinsic_cli.cli import main

sys.exit(main())
