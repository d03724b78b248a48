"""Text as whole numbers: corpora of words for language models, with their vocabulary and where they came from.

``load_text`` gives a named corpus or the user's own text, split by position into training, validation and test tokens.
Every line ends with <eos>; words that the vocabulary, which is that of the training part, does not have are <unk>.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from equikernel.errors import DataError
from equikernel.validation.data_files import reading
from equikernel.validation.deq.options import require_count
from equikernel.validation.mixtures import seeded_generator

__all__ = [
    "CORPORA",
    "END",
    "UNKNOWN",
    "TextCorpus",
    "encode",
    "load_text",
    "markov_corpus",
    "transition_matrix",
    "vocabulary_of",
    "words_of",
]

Tokens = NDArray[np.int32]
Array = NDArray[np.float64]

CORPORA = ("python-topics", "markov", "wikitext-103")
END, UNKNOWN = "<eos>", "<unk>"

_MIN_COUNT = 3
_SPLIT = (0.8, 0.9)  # where the training and the validation part end
_FEWEST_TOKENS = 100
# words (letters, digits, underscores; an apostrophe inside), <unk> as it is, and runs of one other sign
_WORD = re.compile(r"<unk>|\w+(?:'\w+)?|([^\w\s])\1*")
_TOKENISATION = "lower case; words of letters, digits and underscores, runs of one other sign"
_ZIPF = 1.5


@dataclass(frozen=True, eq=False)
class TextCorpus:
    """Tokens, as places in the vocabulary.

    Attributes:
        name: the name or the path that was asked for.
        train, valid, test: (n,) int32, read-only; those of large corpora are mapped from files.
        vocabulary: the words, the most frequent of the training part first.
        source: where the text came from.
        preprocessing: what was done to it, in words.
        sha256: of the tokens and the vocabulary; of a corpus that is cached, of the files that they are made from.
        entropy_rate: nats a token, where the source is known; no model's expected loss on new text is less.
    """

    name: str
    train: Tokens
    valid: Tokens
    test: Tokens
    vocabulary: tuple[str, ...]
    source: str
    preprocessing: str
    sha256: str
    entropy_rate: float | None = None

    @property
    def title(self) -> str:
        """For headings."""
        name = self.name if self.name in CORPORA else Path(self.name).name
        sizes = "/".join(f"{len(part):,}" for part in (self.train, self.valid, self.test))
        return f"{name} ({sizes} tokens, {len(self.vocabulary):,} words)"


def load_text(
    name_or_path: str | os.PathLike[str], *, min_count: int | None = None, seed: int = 0, download: bool = True
) -> TextCorpus:
    """A named corpus, or the user's own text.

    Names: "python-topics" (Python's help on its language, about 80,000 tokens that every Python brings along; they
    differ a little between its versions), "markov" (generated, see ``markov_corpus``), "wikitext-103" (see
    ``wikitext``). Paths: a folder or a .zip that holds wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens; any
    other file is read as plain text in UTF-8, of which the first 80 % are for training, the next 10 % for validation.

    Args:
        name_or_path: a name in ``CORPORA`` or a path.
        min_count: words that come less often in the training part are <unk>; None: 3, for WikiText, which has done this
            already, 1.
        seed: of "markov".
        download: whether WikiText-103 may be downloaded if it is not on this machine.

    Raises:
        DataError: a missing, damaged or too short text; another encoding; a corpus that could not be downloaded.
        InputError: ``min_count`` is no whole number of 1 or more.
    """
    name, path = os.fspath(name_or_path), Path(name_or_path)
    if min_count is not None:
        require_count(min_count, "min_count", 1)
    if name == "markov":
        return markov_corpus(seed=seed)
    if name == "python-topics":
        return _from_lines(name, _topics(), _topics_source(), min_count or _MIN_COUNT)
    if name == "wikitext-103" or path.is_dir() or path.suffix.lower() == ".zip":
        from equikernel.validation.datasets.wikitext import load_wikitext

        return load_wikitext(name, min_count or 1, download=download)
    if not path.is_file():
        raise DataError(
            f"unknown text {name!r}: expected {', '.join(CORPORA)}, a text file, or a folder or .zip of WikiText"
        )
    with reading(path, "text in UTF-8"):
        text = path.read_text(encoding="utf-8-sig")
    return _from_lines(name, text.splitlines(), str(path), min_count or _MIN_COUNT)


def words_of(line: str) -> list[str]:
    """The words and signs of a line, in lower case."""
    return [match.group() for match in _WORD.finditer(line.lower())]


def vocabulary_of(counts: Mapping[str, int], min_count: int) -> tuple[str, ...]:
    """The words that come often enough, the most frequent first and equals in order; <unk> and <eos> are among them.

    Args:
        counts: of the words of the training part. <unk> is counted for what is left out.
        min_count: how often is often enough.
    """
    kept = {word: count for word, count in counts.items() if count >= min_count or word in {END, UNKNOWN}}
    lost = sum(counts.values()) - sum(kept.values())
    kept[UNKNOWN] = kept.get(UNKNOWN, 0) + lost
    kept.setdefault(END, 0)
    return tuple(sorted(kept, key=lambda word: (-kept[word], word)))


def encode(words: Iterable[str], places: Mapping[str, int]) -> Tokens:
    """The places of words in the vocabulary; of words that it does not have, that of <unk>."""
    unknown = places[UNKNOWN]
    return np.fromiter((places.get(word, unknown) for word in words), np.int32)


def _from_lines(name: str, lines: Iterable[str], source: str, min_count: int) -> TextCorpus:
    words = [word for line in lines for word in (*words_of(line), END)]
    if len(words) < _FEWEST_TOKENS:
        raise DataError(f"{source} has {len(words)} words, too few to be split: give {_FEWEST_TOKENS} or more")
    first, second = (int(part * len(words)) for part in _SPLIT)
    vocabulary = vocabulary_of(Counter(words[:first]), min_count)
    tokens = encode(words, {word: place for place, word in enumerate(vocabulary)})
    steps = (
        f"{_TOKENISATION}; <eos> after every line; words that come less than {min_count} times in the training part "
        "are <unk>; split by position 80/10/10 %"
    )
    return _corpus(name, (tokens[:first], tokens[first:second], tokens[second:]), vocabulary, source, steps)


def _corpus(
    name: str,
    parts: Sequence[Tokens],
    vocabulary: tuple[str, ...],
    source: str,
    preprocessing: str,
    entropy_rate: float | None = None,
) -> TextCorpus:
    hasher = hashlib.sha256("\n".join(vocabulary).encode())
    for part in parts:
        part.flags.writeable = False
        hasher.update(f"\n{len(part)}\n".encode() + np.ascontiguousarray(part, "<i4").tobytes())
    train, valid, test = parts
    return TextCorpus(name, train, valid, test, vocabulary, source, preprocessing, hasher.hexdigest(), entropy_rate)


def _topics() -> list[str]:
    """The paragraphs of Python's help topics, each once: topics quote each other, and the test part must be new."""
    try:
        from pydoc_data.topics import topics
    except ModuleNotFoundError as error:  # some distributions leave it out
        raise DataError("this Python has no help topics (pydoc_data): give another text") from error
    paragraphs = (" ".join(part.split()) for name in sorted(topics) for part in re.split(r"\n\s*\n", topics[name]))
    return list(dict.fromkeys(part for part in paragraphs if part))


def _topics_source() -> str:
    import platform

    return f"the help topics of Python {platform.python_version()} (pydoc_data.topics), every paragraph once"


def transition_matrix(words: int, stream: np.random.Generator) -> Array:
    """A Markov chain whose rows are one Zipf law, r^(-3/2)/sum, in an order of their own.

    Args:
        words: how many.
        stream: of the orders.

    Returns:
        (words, words), rows that add up to 1.
    """
    law = np.arange(1.0, words + 1.0) ** -_ZIPF
    return np.array([stream.permutation(law / law.sum()) for _ in range(words)])


def markov_corpus(words: int = 64, tokens: int = 200_000, seed: int = 0) -> TextCorpus:
    """A text from a Markov chain, whose entropy rate is known: exp of it is the least perplexity that a model can have.

    Formula: H = -sum_i pi_i sum_j P_ij log P_ij with P of ``transition_matrix``. All rows of P are one law in different
    orders, so that H is the entropy of that law, whatever pi is.

    Args:
        words: of the vocabulary, 2 or more.
        tokens: of the whole text, 100 or more.
        seed: of the chain and of the text.

    Raises:
        InputError: sizes or a seed that are no such numbers.
    """
    words, tokens = require_count(words, "words", 2), require_count(tokens, "tokens", _FEWEST_TOKENS)
    stream = seeded_generator(seed)
    P = transition_matrix(words, stream)
    cumulative = np.cumsum(P, axis=1)
    cumulative[:, -1] = 1.0
    text, state = np.empty(tokens, np.int32), 0
    for place, uniform in enumerate(stream.random(tokens)):
        state = int(np.searchsorted(cumulative[state], uniform, side="right"))
        text[place] = state
    names = tuple(f"w{k}" for k in range(words))
    first, second = (int(part * tokens) for part in _SPLIT)
    order = np.argsort(-np.bincount(text[:first], minlength=words), kind="stable")
    places = np.empty(words, np.int32)
    places[order] = np.arange(words, dtype=np.int32)
    text = places[text]
    return _corpus(
        "markov",
        (text[:first], text[first:second], text[second:]),
        tuple(names[k] for k in order),
        f"a Markov chain of {words} words, {tokens} tokens, seed {seed}",
        "split by position 80/10/10 %",
        -float(np.sum(P[0] * np.log(P[0]))),
    )
