def Install(a, b, c, d, e):
    pass
