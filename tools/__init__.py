"""The command line of chest-refseg: ``python -m tools --help``."""
