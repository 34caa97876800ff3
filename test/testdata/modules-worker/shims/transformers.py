"""Stands in for transformers: what CreateBNBQuantization makes."""


class BitsAndBytesConfig:
    def __init__(self, **options):
        self.options = options
