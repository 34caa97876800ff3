def Install(Env=None, Args=[]):
    print("two", Env, Args)
