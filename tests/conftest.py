"""Text that every machine has, and an engine switch."""

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtool.core.bpe import engine

# Triton looks when it is imported: without a GPU its kernels run in its interpreter. What compiles is a child process.
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"

# No test reads or writes the user's cache; those of the cache name a directory of their own.
os.environ["LLMTOOL_CACHE"] = "off"

# A shell's background job ignores Ctrl-C, and so would the commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

STDLIB = Path(json.__file__).parents[1]

SCRIPTS = (
    "The quick brown fox doesn't jump; it's 1234567 miles away!!\n\n\tTabs  and   spaces \r\n",
    "Größe, Übermut und die Straße im März. Ça va? À bientôt, naïve élève.\n",
    "Быстрая коричневая лиса перепрыгивает через ленивую собаку. Ёжик!\n",
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n",
    "天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。١٢٣٤٥ ௧௨௩\n",
    "આ ઈસુ ખ્રિસ્તનો કૌટુંબિક ઈતિહાસ છે. क्या हाल है? สวัสดีครับ\n",
    "اَلْعَرَبِيَّةُ لغة جميلة. עברית שפה יפה. 한국어 텍스트입니다.\n",
    "emoji 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ﷽ e\u0301 \u200b\u00a0\u3000\u2028 ſ ’s 'S 'ſ don't WE'LL\n",
)
"""A line in each of many scripts, with what scanners trip over."""


@pytest.fixture(scope="session")
def sources() -> list[bytes]:
    """Real text: 60 files of the standard library, about 1.5 MB, and the lines above."""
    files = sorted(STDLIB.glob("*.py"))
    random.Random(7).shuffle(files)
    return [path.read_bytes() for path in files[:60]] + [line.encode() for line in SCRIPTS]


@pytest.fixture(params=["native", "python"])
def each_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test on the C++ engine and on portable Python."""
    if request.param == "python":
        monkeypatch.setattr(engine, "_NATIVE", None)
        monkeypatch.setattr(engine, "NAME", "python")
    elif engine.NAME == "python":
        pytest.skip("LLMTOOL_ENGINE=python was asked for")
    return str(request.param)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    """Write a file under the test's directory and return its path."""

    def write_file(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return path

    return write_file
