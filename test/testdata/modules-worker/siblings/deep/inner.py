from ..helper import VALUE as SIBLING  # noqa: F401
