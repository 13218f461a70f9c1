"""`python -m mechaudio`."""

import sys

from mechaudio.cli import main

if __name__ == "__main__":
    sys.exit(main())
