"""`python -m uproxy` is `uproxy`."""

from uproxy.cli import main

if __name__ == "__main__":
    main()
