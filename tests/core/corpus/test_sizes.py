import pytest

from llmtool.core.corpus.sizes import parse_size
from llmtool.core.run.errors import UserError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("4096b", 4096),
        ("10G", 10**10),
        ("10gb", 10**10),
        ("1.5 GB", 1_500_000_000),
        (".5k", 500),
        ("512KiB", 512 << 10),
        ("64Mi", 64 << 20),
        ("2TiB", 2 << 40),
        (" 3T ", 3 * 10**12),
        ("0.1M", 100_000),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "G", "-1", "0", "0.1", "1.G.", "10 apples", "1e9", "1i", "10GiBs", "٣", "1_000", "inf"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match=r"size .*\(write 500M"):
        parse_size(text)
