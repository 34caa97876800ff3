"""An install that ends only when somebody ends it."""

import time


def Install(requirements):
    print("probe install waits", flush=True)
    time.sleep(3600)
