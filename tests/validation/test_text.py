"""Corpora of words: tokens, vocabulary, the generated text's entropy, and the format of WikiText on tiny files."""

from __future__ import annotations

import hashlib
import io
import math
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pooch
import pytest

from equikernel.errors import DataError, InputError
from equikernel.validation.datasets import wikitext
from equikernel.validation.datasets.text import (
    CORPORA,
    END,
    UNKNOWN,
    TextCorpus,
    encode,
    load_text,
    markov_corpus,
    transition_matrix,
    vocabulary_of,
    words_of,
)

from .data_writers import isolate

# As in the real files: a blank at both ends of a line, headings between signs of equality, empty lines, @-@ and <unk>.
TRAIN = (
    " \n = Café Olé = \n \n The <unk> café opened in 1891 , 100 @-@ 200 m from the Königsallee . \n"
    " \n = = History = = \n \n 東京 is the capital . The café is the oldest . \n"
)
VALID = " \n = 東京 = \n \n The capital is unheard @-@ of . \n"
TEST = " \n = Olé = \n \n It is the <unk> . \n"
FILES = {"wiki.train.tokens": TRAIN, "wiki.valid.tokens": VALID, "wiki.test.tokens": TEST}


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    isolate(monkeypatch, tmp_path)


def in_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_bytes(text.encode())
    return folder


def in_zip(path: Path, prefix: str = "wikitext-103/", files: dict[str, str] = FILES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(prefix + name, text.encode())
    return path


def text_of(corpus: TextCorpus, part: str) -> list[str]:
    return [corpus.vocabulary[token] for token in getattr(corpus, part)]


def by_lines(text: str) -> list[str]:
    """The tokens of a part: words between blanks, and the end of every line."""
    return [word for line in text.split("\n")[:-1] for word in [*line.split(" "), END] if word]


# --- words and vocabularies ---


def test_words_and_signs():
    line = "Don't print(x_1) twice... it's -- naïve; <unk> costs £3.50!"
    expected = "don't print ( x_1 ) twice ... it's -- naïve ; <unk> costs £ 3 . 50 !"
    assert words_of(line) == expected.split()
    assert words_of("  \t ") == []


def test_the_vocabulary_is_sorted_by_frequency_then_by_name():
    counts = Counter({"b": 5, "a": 5, "c": 9, "rare": 2, "rarer": 1, END: 3})
    assert vocabulary_of(counts, 3) == ("c", "a", "b", END, UNKNOWN)  # 3 of <eos> and 3 of <unk>: in order
    assert vocabulary_of(counts, 1) == ("c", "a", "b", END, "rare", "rarer", UNKNOWN)
    places = {word: place for place, word in enumerate(vocabulary_of(counts, 3))}
    assert encode(["c", "rare", END, "new"], places).tolist() == [0, 4, 3, 4]


# --- named corpora and the user's text ---


def test_python_topics_are_new_in_the_test_part():
    from pydoc_data.topics import topics

    corpus = load_text("python-topics")
    assert corpus.name in CORPORA
    assert len(corpus.train) > 50_000
    assert len(corpus.train) / 8 == pytest.approx(len(corpus.test), abs=2)
    assert len(corpus.valid) == pytest.approx(len(corpus.test), abs=1)
    assert 1000 < len(corpus.vocabulary) < 3000
    paragraphs = " ".join(text_of(corpus, "test")).split(END)[1:-1]
    before = set(" ".join(text_of(corpus, "train")).split(END))
    repeated = [p for p in paragraphs if len(p.split()) > 12 and p in before]
    assert not repeated  # of long ones: two short ones may differ in words that are <unk>
    assert sum(map(len, topics.values())) > sum(len(word) for word in text_of(corpus, "train"))
    again = load_text("python-topics")
    assert again.sha256 == corpus.sha256
    assert not corpus.train.flags.writeable


def test_a_python_without_help_topics(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match="this Python has no help topics"):
        load_text("python-topics")


def test_the_users_text(tmp_path):
    lines = [f"the {animal} ate {k}" for k in range(20) for animal in ("cat", "dog")]
    path = tmp_path / "animals.txt"
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    corpus = load_text(path)
    words = [word for line in lines for word in [*line.split(), END]]
    first = int(0.8 * len(words))
    counts = Counter(words[:first])
    assert set(corpus.vocabulary) == {word for word, count in counts.items() if count >= 3} | {UNKNOWN}
    shown = [word if counts[word] >= 3 else UNKNOWN for word in words]
    assert text_of(corpus, "train") + text_of(corpus, "valid") + text_of(corpus, "test") == shown
    assert len(corpus.train) == first
    assert "animals.txt (160/20/20 tokens" in corpus.title
    assert len(load_text(path, min_count=1).vocabulary) == len(counts) + 1
    other = load_text(path, min_count=2)
    assert other.sha256 != corpus.sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"too few words", "has 4 words, too few to be split: give 100 or more"),
        (b"\xff\xfe\x00broken" * 100, "cannot be read as text in UTF-8"),
        (None, "unknown text .*: expected python-topics, markov, wikitext-103, a text file"),
    ],
)
def test_bad_text_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "some.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_text(path)


def test_bad_counts():
    with pytest.raises(InputError, match="min_count must be a whole number, 1 or more; got 0"):
        load_text("python-topics", min_count=0)
    with pytest.raises(InputError, match="words must be a whole number, 2 or more"):
        markov_corpus(words=1)


def test_the_generated_text_has_the_entropy_rate_that_it_says():
    corpus = markov_corpus(words=12, tokens=60_000, seed=3)
    P = transition_matrix(12, np.random.default_rng(3))
    values, vectors = np.linalg.eig(P.T)
    pi = np.real(vectors[:, np.argmax(np.real(values))])
    pi /= pi.sum()
    # rounding of sums of 12 terms; the eigenvector's condition is of order 1
    assert corpus.entropy_rate == pytest.approx(-float(np.sum(pi[:, None] * P * np.log(P))), rel=1e-12)
    assert P.sum(axis=1) == pytest.approx(np.ones(12), rel=1e-14)
    # log P of the text that was drawn: its mean is H within the standard error, words being renamed by frequency
    names = np.array([int(word[1:]) for word in corpus.vocabulary])
    text = names[np.concatenate([corpus.train, corpus.valid, corpus.test])]
    losses = -np.log(P[text[:-1], text[1:]])
    assert losses.mean() == pytest.approx(corpus.entropy_rate, abs=4 * losses.std() / math.sqrt(len(losses)))
    counts = np.bincount(corpus.train)
    assert (np.diff(counts) <= 0).all()
    assert np.array_equal(load_text("markov", seed=3).train, markov_corpus(seed=3).train)


# --- WikiText ---


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_wikitext_word_by_word(tmp_path, kind):
    source = in_folder(tmp_path / "w") if kind == "folder" else in_zip(tmp_path / "w.zip")
    corpus = load_text(source)
    for part, text in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        known = Counter(by_lines(TRAIN))
        assert text_of(corpus, part) == [word if word in known else UNKNOWN for word in by_lines(text)]
    assert text_of(corpus, "train")[:7] == [END, "=", "Café", "Olé", "=", END, END]
    assert corpus.train.dtype == np.int32
    assert isinstance(corpus.train, np.memmap)
    assert not corpus.train.flags.writeable
    frequent = Counter(by_lines(TRAIN)).most_common()
    assert corpus.vocabulary == tuple(word for word, _ in sorted(frequent, key=lambda item: (-item[1], item[0])))


def test_lines_longer_than_a_block_of_the_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr(wikitext, "_BLOCK_LINES", 3)
    corpus = load_text(in_folder(tmp_path / "w"))
    assert text_of(corpus, "train") == by_lines(TRAIN)


def test_a_second_load_reads_the_cache_unless_it_is_damaged(tmp_path, monkeypatch):
    source = in_folder(tmp_path / "w")
    first = load_text(source)
    valid = first.valid.copy()  # the file behind it will be damaged
    calls = []
    encode_all = wikitext._encode_all
    monkeypatch.setattr(wikitext, "_encode_all", lambda *given: (calls.append(given), encode_all(*given)))
    assert np.array_equal(load_text(source).train, first.train)
    assert not calls
    assert load_text(source, min_count=2).sha256 != first.sha256  # another vocabulary is another cache
    assert len(calls) == 1
    (folder,) = {path.parent for path in (tmp_path / "cache").rglob("train.npy")} - {calls[0][1]}
    (folder / "valid.npy").write_bytes(b"short")
    assert np.array_equal(load_text(source).valid, valid)
    assert len(calls) == 2
    (source / "wiki.train.tokens").write_bytes(TRAIN.encode() + b" More . \n")
    assert len(load_text(source).train) == len(first.train) + 3
    assert len(calls) == 3
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_members_are_read_where_they_are(tmp_path):
    source = in_zip(tmp_path / "w.zip", prefix="../../outside/")
    assert len(load_text(source).test) == len(by_lines(TEST))
    assert not (tmp_path.parent / "outside").exists()
    assert not list(tmp_path.rglob("*.tokens"))


def test_where_the_named_corpus_is_found(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"wikitext-103.*could not be downloaded.*ConnectionError.*EQUIKERNEL_DATA"):
        load_text("wikitext-103")
    with pytest.raises(DataError, match=r"not on this machine: allow the download \(190 MB\), or put"):
        load_text("wikitext-103", download=False)
    cached = in_zip(tmp_path / "cache" / "equikernel" / "wikitext-103" / "wikitext-103-v1.zip")
    with pytest.raises(DataError, match="not on this machine"):  # another SHA-256 than that of the real file
        load_text("wikitext-103", download=False)
    monkeypatch.setattr(wikitext, "_SHA256", hashlib.sha256(cached.read_bytes()).hexdigest())
    assert load_text("wikitext-103", download=False).source == str(cached)
    own = in_zip(tmp_path / "data" / "wikitext-103" / "wikitext-103-v1.zip")
    assert load_text("wikitext-103", download=False).source == str(own)
    assert load_text(in_folder(own.parent)).source == str(own.parent)
    assert load_text("wikitext-103").source == str(own.parent)


def test_the_download_is_checked(monkeypatch):
    asked = {}

    def retrieve(url, known_hash, fname, path):
        asked.update(url=url, known_hash=known_hash)
        return str(in_zip(Path(path) / fname))

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(load_text("wikitext-103").test) == len(by_lines(TEST))
    assert asked["url"].endswith("/wikitext-103-v1.zip")
    assert len(asked["known_hash"]) == 64


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wiki.train.tokens": TRAIN}, "must hold one file wiki.valid.tokens; it holds none"),
        (FILES | {"copy/wiki.train.tokens": TRAIN}, "must hold one file wiki.train.tokens; it holds 2"),
        (FILES | {"wiki.test.tokens": ""}, "wiki.test.tokens of .* is empty"),
    ],
)
def test_bad_archives(tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        load_text(in_zip(tmp_path / "w.zip", files=files))


def test_damaged_files(tmp_path):
    path = tmp_path / "w.zip"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="cannot be read as a corpus of WikiText"):
        load_text(path)
    with pytest.raises(DataError, match="does not exist"):
        load_text(tmp_path / "missing.zip")
    folder = in_folder(tmp_path / "w")
    (folder / "wiki.valid.tokens").write_bytes("é".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read as a corpus of WikiText"):
        load_text(folder)
    (folder / "wiki.valid.tokens").unlink()
    with pytest.raises(DataError, match=r"has no file wiki.valid.tokens: a folder of WikiText holds"):
        load_text(folder)


def test_a_truncated_archive_is_one_sentence(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in FILES.items():
            archive.writestr(name, text * 50)
    content = bytearray(buffer.getvalue())
    content[60:70] = bytes(10)
    path = tmp_path / "w.zip"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a corpus of WikiText"):
        load_text(path)
