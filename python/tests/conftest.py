"""What the tests share: plans over local pages and over pages of a server that holds them back."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from held_server import HeldServer

PAGES = ["cats sleep all day", "dogs bark at night", "birds sing at dawn"]


@pytest.fixture
def deep() -> bool:
    """Whether the long forms of tests are asked for."""
    return os.environ.get("TRICORNE_DEEP") == "1"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan that makes one shard of three local pages."""
    for number, text in enumerate(PAGES):
        (tmp_path / f"page-{number}.html").write_text(f"<title>Page {number}</title><p>{text}</p>", encoding="utf-8")
    path = tmp_path / "plan.toml"
    path.write_text(
        """
[source]
files = "page-*.html"

[[stage]]
use = "extract"
[[stage]]
use = "clean"
[[stage]]
use = "features"

[sink]
path = "out"
format = "jsonl"
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def held_server() -> Iterator[HeldServer]:
    server = HeldServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def held_plan(tmp_path: Path, held_server: HeldServer) -> Path:
    """A plan over four pages of the server that holds back."""
    urls = "".join(f"{held_server.address}/page/{number}\n" for number in range(4))
    (tmp_path / "urls.txt").write_text(urls, encoding="utf-8")
    path = tmp_path / "held.toml"
    path.write_text('[source]\nurls = "urls.txt"\n\n[[stage]]\nuse = "extract"\n\n[sink]\npath = "held"\n', encoding="utf-8")
    return path
