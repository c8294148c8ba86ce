"""``python -m lsegdiff_core`` is ``lsegdiff``."""

from lsegdiff_core.cli import main

if __name__ == "__main__":
    main()
