"""Texts that stay in a file: a sequence of strings of which few are in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from longread.data.mapped import Maps

BLOCK = 1024  # texts that are read together
GAPS = 4  # neighbours are read in one go unless what lies between them is more than so many times their bytes


class StoredTexts(Sequence[str]):
    """The texts in `name` of a folder, UTF-8, one behind the other; `chosen` [R]: which of them, None for all.

    Its arrays hold where each text ends (`NAME ends`).
    """

    def __init__(self, maps: Maps, name: str, chosen: npt.NDArray[np.integer[Any]] | None = None) -> None:
        self.maps, self.name, self.chosen = maps, name, chosen
        self._ends = maps.arrays[f"{name} ends"]

    @property
    def digest(self) -> str:
        """Of all texts and labels of the folder."""
        return str(self.maps.about["digest"])

    @property
    def folder(self) -> Path:
        return self.maps.folder

    def __len__(self) -> int:
        return len(self._ends) if self.chosen is None else len(self.chosen)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return self._read(np.arange(*place.indices(len(self))))
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return self._read(np.array([place % len(self)]))[0]

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, len(self), BLOCK):
            yield from self[begin : begin + BLOCK]

    def at(self, chosen: npt.NDArray[np.integer[Any]]) -> StoredTexts:
        """Those at `chosen` of the folder's texts, in that order."""
        return StoredTexts(self.maps, self.name, chosen)

    @property
    def characters(self) -> int:
        """About as many as all texts have (their bytes)."""
        total = 0
        for begin in range(0, len(self), 1 << 18):
            first, last = self._bounds(np.arange(begin, min(len(self), begin + (1 << 18))))
            total += int((last - first).sum())
        self.maps.release()
        return total

    def _bounds(self, places: npt.NDArray[np.integer[Any]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        own = (places if self.chosen is None else self.chosen[places]).astype(np.int64)
        first = np.where(own > 0, self._ends[np.maximum(own - 1, 0)], 0)
        return first, self._ends[own]

    def _read(self, places: npt.NDArray[np.integer[Any]]) -> list[str]:
        if not len(places):
            return []
        first, last = self._bounds(places)
        self.maps.used(len(places))
        begin, end = int(first.min()), int(last.max())
        with (self.maps.folder / self.name).open("rb") as file:
            if end - begin <= GAPS * int((last - first).sum()) + 4096:
                file.seek(begin)
                data = file.read(end - begin)
                bounds = zip((first - begin).tolist(), (last - begin).tolist(), strict=True)
                return [data[one:other].decode() for one, other in bounds]
            found = []
            for one, other in zip(first.tolist(), last.tolist(), strict=True):
                file.seek(one)
                found.append(file.read(other - one).decode())
        return found
