from collections.abc import Sequence
from os import PathLike
from typing import Final, final

__all__ = ["Pipeline", "__version__", "main"]

__version__: Final[str]

def main(argv: Sequence[str | PathLike[str]]) -> int: ...
@final
class Pipeline:
    @staticmethod
    def from_toml(path: str | PathLike[str]) -> Pipeline: ...
    def run(self, *, retry_failed: bool = False, serial: bool = False) -> str: ...
