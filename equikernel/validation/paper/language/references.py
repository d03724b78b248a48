"""What perplexities are to be read against: guessing, counts of words and of pairs of words, and the entropy rate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from equikernel.validation.datasets.text import TextCorpus

__all__ = ["reference_perplexities"]

Tokens = NDArray[np.int32]

_STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_MOST_PAIRS = 5_000_000  # training tokens beyond which pairs are not counted: they are sorted in memory


def reference_perplexities(corpus: TextCorpus) -> dict[str, float | None]:
    """Perplexities on the test part, without any network.

    Formulas, c counts of the training part, v words: "uniform" v; "unigram" of p(w) = (c(w) + 1)/(n + v); "bigram" of
    p(w|u) = (c(u w) + a p(w))/(c(u) + a), a the best on the validation part of 1, 3, ..., 1000, None of large corpora;
    "entropy bound" exp(H) where the source's entropy rate H is known, else None.
    """
    words = len(corpus.vocabulary)
    counts = np.bincount(corpus.train, minlength=words)
    unigram = (counts + 1.0) / (len(corpus.train) + words)
    rate = corpus.entropy_rate
    return {
        "uniform": float(words),
        "unigram": math.exp(-float(np.log(unigram[corpus.test]).mean())),
        "bigram": _bigram(corpus, unigram) if len(corpus.train) <= _MOST_PAIRS else None,
        "entropy bound": None if rate is None else math.exp(rate),
    }


def _bigram(corpus: TextCorpus, unigram: NDArray[np.float64]) -> float:
    pairs, numbers = np.unique(_pairs(corpus.train, len(unigram)), return_counts=True)
    before = np.bincount(corpus.train[:-1], minlength=len(unigram))

    def loss(tokens: Tokens, strength: float) -> float:
        wanted = _pairs(tokens, len(unigram))
        place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
        together = np.where(pairs[place] == wanted, numbers[place], 0)
        p = (together + strength * unigram[tokens[1:]]) / (before[tokens[:-1]] + strength)
        return -float(np.log(p).mean())

    best = min(_STRENGTHS, key=lambda strength: loss(corpus.valid, strength))
    return math.exp(loss(corpus.test, best))


def _pairs(tokens: Tokens, words: int) -> NDArray[np.int64]:
    return tokens[:-1].astype(np.int64) * words + tokens[1:]
