"""`python -m longread`."""

import sys

from longread.cli import main

sys.exit(main())
