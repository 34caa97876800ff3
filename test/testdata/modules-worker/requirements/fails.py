def Install(a):
    raise ValueError("no network")
