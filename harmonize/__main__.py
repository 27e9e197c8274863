"""``python -m harmonize``."""

from harmonize.cli import main

if __name__ == "__main__":
    main()
