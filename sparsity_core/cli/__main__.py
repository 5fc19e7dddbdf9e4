"""`python -m sparsity_core.cli`: the command `sparsity` where it is not installed."""

import sys

from sparsity_core.cli.main import main

sys.exit(main())
