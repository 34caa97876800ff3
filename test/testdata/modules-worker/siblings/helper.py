NAME = __name__
VALUE = 42


def entry():
    import EnabledModules.siblings.service as service

    return service
