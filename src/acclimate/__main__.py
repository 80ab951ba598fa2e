"""`python -m acclimate`, the way `torchrun -m` wants it."""

from acclimate.cli.main import main

if __name__ == "__main__":
    main()
