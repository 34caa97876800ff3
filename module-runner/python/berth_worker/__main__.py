"""Start of the worker: ``python3 <this folder>``."""

import os
import sys


def main() -> None:
    package = os.path.dirname(os.path.abspath(__file__))
    home = os.path.dirname(package)
    # Python has put this folder first on the path; its file names are no business of the module.
    sys.path[0] = home
    from berth_worker import worker

    sys.path[0] = os.path.join(home, "shims")
    worker.run()


if __name__ == "__main__":
    main()
