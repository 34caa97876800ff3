PACKAGE = "a"
