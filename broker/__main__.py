"""`python -m broker` is `fame`."""

from broker.cli import main

if __name__ == "__main__":
    main()
