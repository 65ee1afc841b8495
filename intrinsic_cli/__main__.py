"""`python -m intrinsic_cli` is `idim`."""

import sys

from intrinsic_cli.cli.main import main

sys.exit(main())
