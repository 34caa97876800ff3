"""The process that a service module's Python runs in: a child of the runner, spoken to as frames.py describes.

Standard library only, because it runs in the module's own environment, on Python 3.9 and newer. It is meant to be
small: `typing` is left to type checkers, and what few modules need (asyncio, traceback) is imported when one does.
"""
