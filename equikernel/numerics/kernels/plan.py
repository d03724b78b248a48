"""A kernel cut into blocks: which there are, in what order they are solved, and what they take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from equikernel.errors import InputError

__all__ = ["BLOCK", "BlockPlan", "Place", "positive_integer"]

BLOCK = 4096
Place = tuple[int, int]


def positive_integer(value: object, name: str) -> int:
    """The value.

    Raises:
        InputError: not an integer of at least 1.
    """
    if type(value) is not int or value < 1:
        raise InputError(f"{name} must be a positive integer; got {value!r}")
    return value


@dataclass(frozen=True)
class BlockPlan:
    """Blocks of a kernel of n x m pairs; of a symmetric one only those on and above the diagonal.

    Attributes:
        n: number of rows.
        m: number of columns.
        block: rows and columns of a block, fewer in the last ones.
        symmetric: whether rows and columns are the same samples, so that every block has a mirror image.
    """

    n: int
    m: int
    block: int
    symmetric: bool

    @classmethod
    def of(cls, n: int, m: int | None, block: int) -> BlockPlan:
        """The plan of n samples against m others, or (m None) against themselves."""
        largest = max(n, m or 0)
        return cls(n, n if m is None else m, min(positive_integer(block, "block"), largest), m is None)

    @property
    def shape(self) -> Place:
        """The kernel's shape (n, m)."""
        return self.n, self.m

    @property
    def chunks(self) -> Place:
        """Numbers of blocks down and across."""
        return -(-self.n // self.block), -(-self.m // self.block)

    @property
    def count(self) -> int:
        """The number of blocks to solve."""
        down, across = self.chunks
        return down * (down + 1) // 2 if self.symmetric else down * across

    def places(self) -> Iterator[Place]:
        """Every block to solve, row by row, to and fro: so consecutive blocks share samples."""
        down, across = self.chunks
        for i in range(down):
            columns = range(i if self.symmetric else 0, across)
            yield from ((i, j) for j in (reversed(columns) if i % 2 else columns))

    def rows(self, i: int) -> slice:
        """The rows of the blocks (i, .)."""
        return slice(i * self.block, min((i + 1) * self.block, self.n))

    def columns(self, j: int) -> slice:
        """The columns of the blocks (., j)."""
        return slice(j * self.block, min((j + 1) * self.block, self.m))

    def size(self, place: Place) -> Place:
        """Numbers of rows and columns of a block."""
        rows, columns = self.rows(place[0]), self.columns(place[1])
        return rows.stop - rows.start, columns.stop - columns.start

    def on_diagonal(self, place: Place) -> bool:
        """Whether the block is its own mirror image."""
        return self.symmetric and place[0] == place[1]

    def pairs(self, place: Place) -> int:
        """Pairs that are solved for a block: of one on the diagonal half of it."""
        rows, columns = self.size(place)
        return rows * (rows + 1) // 2 if self.on_diagonal(place) else rows * columns

    def entries(self, place: Place) -> int:
        """Entries of the kernel that a block provides, those of its mirror image included."""
        rows, columns = self.size(place)
        return rows * columns * (2 if self.symmetric and not self.on_diagonal(place) else 1)

    def bytes_on_disk(self, place: Place, *, padded: bool) -> int:
        """Bytes of a kernel that a block provides; padded: as chunks of one size, which the last blocks do not fill."""
        if not padded:
            return 8 * self.entries(place)
        return self.block_bytes * (2 if self.symmetric and not self.on_diagonal(place) else 1)

    @property
    def block_bytes(self) -> int:
        """Bytes of the largest block of one kernel."""
        return 8 * min(self.block, self.n) * min(self.block, self.m)
