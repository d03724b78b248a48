"""WikiText-103: its three files of words, from a folder or from the .zip as it is, encoded once and then mapped.

The files hold one paragraph or heading a line, words separated by blanks, rare ones replaced by <unk>. Every line,
empty ones too, ends with <eos>, as is usual; published counts, which include these, are 103,227,021, 217,646 and
245,569 tokens of 267,735 words. Members of the .zip are read where they are: nothing is extracted.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import DataError
from equikernel.numerics.files import atomic_file, write_text
from equikernel.validation.data_files import cache_folder, file_sha256, reading, retrieve, user_folder
from equikernel.validation.datasets.text import END, TextCorpus, encode, vocabulary_of

__all__ = ["load_wikitext"]

Tokens = NDArray[np.int32]

_NAME, _ARCHIVE = "wikitext-103", "wikitext-103-v1.zip"
_BASE_URL = "https://wikitext.smerity.com/"
_SHA256 = "242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590"
_PARTS = ("train", "valid", "test")
_FILES = {part: f"wiki.{part}.tokens" for part in _PARTS}
_BLOCK_LINES = 50_000
_FORMAT = 1  # of the cache


def load_wikitext(name: str, min_count: int = 1, *, download: bool = True) -> TextCorpus:
    """The corpus in a folder or a .zip; by its name, from ``$EQUIKERNEL_DATA/wikitext-103``, the cache or the network.

    The tokens are written to the cache once and mapped from there: of 103 million, only what is used is in memory.

    Args:
        name: "wikitext-103" or a path.
        min_count: words that come less often in the training part are <unk>.
        download: whether it may be downloaded (190 MB), and checked against its SHA-256.

    Raises:
        DataError: a file is missing, damaged or not UTF-8; not on this machine and not downloaded.
        InputError: the cache cannot be written to.
    """
    source = _find(download) if name == _NAME else Path(name)
    key = hashlib.sha256(f"{_FORMAT} {min_count} {_digest(source)}".encode()).hexdigest()
    folder = cache_folder(_NAME) / key[:16]
    if not _is_complete(folder):
        _encode_all(source, folder, min_count)
    with reading(folder, "a cache of tokens"):
        train, valid, test = (np.load(folder / f"{part}.npy", mmap_mode="r", allow_pickle=False) for part in _PARTS)
        vocabulary = tuple((folder / "vocabulary.txt").read_text(encoding="utf-8").split("\n"))
    steps = "words as in the files; <eos> after every line"
    if min_count > 1:
        steps += f"; words that come less than {min_count} times in the training part are <unk>"
    return TextCorpus(name, train, valid, test, vocabulary, str(source), steps, key)


def _find(download: bool) -> Path:
    """The folder or the .zip of the named corpus.

    A .zip that the user put there is taken at its word; one in the cache counts only with the right SHA-256.
    """
    own = user_folder(_NAME)
    if own is not None:
        if all((own / file).is_file() for file in _FILES.values()):
            return own
        if (own / _ARCHIVE).is_file():
            return own / _ARCHIVE
    cached = cache_folder(_NAME) / _ARCHIVE
    if cached.is_file() and file_sha256(cached) == _SHA256:
        return cached
    wanted = f"the corpus {_NAME!r}"
    by_hand = f"put {_ARCHIVE}, or its three files, in $EQUIKERNEL_DATA/{_NAME}, or give their folder"
    if not download:
        raise DataError(f"{wanted} is not on this machine: allow the download (190 MB), or {by_hand}")
    return retrieve(_BASE_URL, {_ARCHIVE: _SHA256}, _NAME, wanted=wanted, by_hand=f"or {by_hand}")[0]


def _digest(source: Path) -> str:
    with reading(source, "a corpus of WikiText"):
        if source.is_dir():
            return " ".join(file_sha256(_file(source, part)) for part in _PARTS)
        return file_sha256(source)


def _file(folder: Path, part: str) -> Path:
    path = folder / _FILES[part]
    if not path.is_file():
        raise DataError(f"{folder} has no file {path.name}: a folder of WikiText holds {', '.join(_FILES.values())}")
    return path


@contextmanager
def _lines(source: Path, part: str) -> Iterator[TextIO]:
    """The lines of a part, decoded as they are read."""
    with ExitStack() as stack:
        stack.enter_context(reading(source, "a corpus of WikiText"))
        if source.is_dir():
            stream: TextIO = stack.enter_context(_file(source, part).open(encoding="utf-8", newline="\n"))
        else:
            archive = stack.enter_context(zipfile.ZipFile(source))
            found = [member for member in archive.namelist() if PurePosixPath(member).name == _FILES[part]]
            if len(found) != 1:
                raise DataError(f"{source} must hold one file {_FILES[part]}; it holds {len(found) or 'none'}")
            stream = io.TextIOWrapper(stack.enter_context(archive.open(found[0])), encoding="utf-8", newline="\n")
            stack.enter_context(stream)
        yield stream


def _words(stream: TextIO) -> Iterator[str]:
    for line in stream:
        yield from line.split()
        yield END


def _is_complete(folder: Path) -> bool:
    """Whether every file of the cache is there and as long as it was when it was written."""
    try:
        sizes: dict[str, int] = json.loads((folder / "sizes.json").read_text(encoding="utf-8"))
        return all((folder / file).stat().st_size == size for file, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _encode_all(source: Path, folder: Path, min_count: int) -> None:
    """Two passes over the training part, one to count its words; the list of sizes, written last, says that all is."""
    counts = {part: Counter[str]() for part in _PARTS}
    for part in _PARTS:
        with _lines(source, part) as stream:
            counts[part].update(_words(stream))
        if not counts[part].total():
            raise DataError(f"{_FILES[part]} of {source} is empty: get it anew")
    vocabulary = vocabulary_of(counts["train"], min_count)
    places = {word: place for place, word in enumerate(vocabulary)}
    for part in _PARTS:
        with _lines(source, part) as stream:
            _encode_part(stream, folder / f"{part}.npy", places, counts[part].total())
    write_text(folder / "vocabulary.txt", "\n".join(vocabulary))
    files = (*(f"{part}.npy" for part in _PARTS), "vocabulary.txt")
    write_text(folder / "sizes.json", json.dumps({file: (folder / file).stat().st_size for file in files}))


def _encode_part(stream: TextIO, path: Path, places: dict[str, int], total: int) -> None:
    with atomic_file(path) as temporary:
        tokens = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.dtype("<i4"), shape=(total,))
        done, block = 0, list[str]()
        for count, line in enumerate(stream, start=1):
            block += [*line.split(), END]
            if count % _BLOCK_LINES == 0:
                done, block = _put(tokens, done, encode(block, places)), []
        _put(tokens, done, encode(block, places))
        tokens.flush()


def _put(tokens: Tokens, done: int, block: Tokens) -> int:
    tokens[done : done + len(block)] = block
    return done + len(block)
