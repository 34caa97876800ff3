import sys

sys.exit(0)


def Install(a):
    pass
