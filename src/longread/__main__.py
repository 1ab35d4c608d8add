"""`python -m longread`."""

import sys

from longread.cli.main import main

sys.exit(main())
