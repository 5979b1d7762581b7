"""`python -m myelos` is `myelos`."""

import sys

from myelos.cli import main

if __name__ == "__main__":
    sys.exit(main())
