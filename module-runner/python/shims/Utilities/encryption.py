"""Hashes by name."""

import hashlib
from typing import Any, Optional, Union

_NAMES = ("sha1", "sha224", "sha256", "sha384", "sha512")


class HashAlgorithm:
    """A hash function that is known by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, content: bytes = b"") -> Any:
        """The hash object of ``hashlib``."""
        return hashlib.new(self.name, content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HashAlgorithm) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"HashAlgorithm({self.name!r})"


def ParseHash(HashName: str) -> Optional[HashAlgorithm]:
    """sha1, sha224, sha256, sha384 or sha512; None for ``none``. Raises ValueError for anything else."""
    name = str(HashName).strip().lower().replace("-", "")
    if name == "none":
        return None
    if name not in _NAMES:
        raise ValueError(f"{HashName!r} is no known hash: {', '.join(_NAMES)} or none")
    return HashAlgorithm(name)


def HashContent(Content: Union[str, bytes], Hash: Union[HashAlgorithm, str, None] = "sha512") -> str:
    """Hexadecimal digest. Text counts as UTF-8. Raises TypeError without a hash."""
    algorithm = ParseHash(Hash) if isinstance(Hash, str) else Hash
    if algorithm is None:
        raise TypeError("a content can't be hashed with the hash `none`")
    content = Content.encode("utf-8") if isinstance(Content, str) else Content
    return str(algorithm(content).hexdigest())
