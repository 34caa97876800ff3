from typing import Any


def Install(Env: "dict[str, Any] | None" = None) -> None:
    print("one", Env)
