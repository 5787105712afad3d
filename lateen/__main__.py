"""``python -m lateen``: the same as the command ``lateen``; the supervisor starts its children by it."""

from lateen.cli.main import main

if __name__ == "__main__":
    main()
