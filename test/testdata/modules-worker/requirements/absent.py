def Instal():
    pass
