"""`python -m mechaudio.cli`."""

import sys

from mechaudio.cli import main

sys.exit(main())
