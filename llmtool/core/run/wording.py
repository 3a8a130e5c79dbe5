"""How many and how much, in words: one row and two rows, 312 bytes and 4.7 MB; names that are no text, as text."""


def encodable(text: str) -> str:
    """With lone surrogates, as names of files have where they are not UTF-8, spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """A whole number of things: `1 row`, `2,000 rows`; plural: where it is not the noun and an s."""
    return f"{number:,.0f} {noun if number == 1 else plural or f'{noun}s'}"


def size(count: float) -> str:
    """Bytes as people read them, three digits and more, never 0.0 of a unit."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= scale:
            return f"{count / scale:,.{2 if count < 10 * scale else 1 if count < 100 * scale else 0}f} {unit}"
    return counted(count, "byte")


def seconds(time: float) -> str:
    """A time as people read it: `0.34 s`, `12 s`, `3 min 20 s`."""
    if time < 10:
        return f"{time:.2g} s"
    if time < 120:
        return f"{time:.0f} s"
    minutes, rest = divmod(round(time), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def prefixed(number: float) -> str:
    """Three digits and the prefix of a unit that follows: `1.23 G`, `805 M`."""
    power = max(0, min(5, (len(f"{number:.0f}") - 1) // 3))
    return f"{number / 1000**power:.3g} {('', 'k', 'M', 'G', 'T', 'P')[power]}"
