"""`python -m graphengine`: the command line, for where the script is not on the path."""

from graphengine.cli import main

main()
