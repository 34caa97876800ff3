SAID = "by the sibling"
