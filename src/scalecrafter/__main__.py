"""`python -m scalecrafter` is the command `scalecrafter`."""

from .cli import main

if __name__ == "__main__":
    main()
