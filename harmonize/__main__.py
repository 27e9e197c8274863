"""``harmonize`` and ``python -m harmonize``."""


def main() -> None:
    """Run the command line, which is imported here: worker processes import this module before they begin."""
    from harmonize.cli import main as run

    run()


if __name__ == "__main__":
    main()
