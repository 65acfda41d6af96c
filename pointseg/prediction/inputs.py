"""Which files are predicted, and what their labels are called.

A file, a folder with all that it holds, a pattern, or a data set in SemanticKITTI's layout, whose labels go where its
benchmark wants them: sequences/SS/predictions/FRAME.label. Elsewhere the output repeats the folders of the input.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pointseg.data.found_clouds import PROBABILITIES, RECORD, clouds_among
from pointseg.data.semantickitti import find_sequences, sequence_folders
from pointseg.errors import ConfigError, DataError
from pointseg.files import expanded, is_file, is_folder
from pointseg.formats import KINDS, LABEL_SUFFIX, has_own_kind, kind_of, require_packages

__all__ = ["PROBABILITIES", "RECORD", "WRITES", "Item", "find_items", "target_of"]

WRITES = ("auto", "label", "own")


class Item(NamedTuple):
    """A file to predict and the file that receives its labels."""

    source: Path
    target: Path

    @property
    def probabilities(self) -> Path:
        """Where the probabilities go, if they are asked for: 000000.probs.npy, tile.laz.probs.npy."""
        return self.target.with_name(self.target.name.removesuffix(LABEL_SUFFIX) + PROBABILITIES)


def find_items(given: str | Path, output: str | Path, write: str = "auto") -> list[Item]:
    """What there is to predict, in the order of the names.

    Args:
        given: a file, a folder, a pattern such as "scans/**/*.pcd", or a data set in SemanticKITTI's layout.
        output: the folder of the results.
        write: "label": a `.label` file for each; "own": a copy of the file with labels in it; "auto": that where the kind
            has room for them, else a `.label` file.

    Raises:
        DataError: if there is nothing that can be read.
        ConfigError: if two files, or a file and its result, would have the same name, a kind has no room for labels, or a
            package of the extra `formats` is missing.

    Example:
        >>> find_items("semantickitti", "predicted")[0].target
        PosixPath('predicted/sequences/00/predictions/000000.label')
    """
    if write not in WRITES:
        raise ConfigError(f"there is no {write!r}", where="write", remedy=f"Use {', '.join(WRITES)}.")
    given, output = expanded(given), expanded(output)
    items = [Item(source, output / target_of(place, write)) for source, place in _found(given, output)]
    if not items:
        raise DataError(
            "there is no file of a kind that is read", where=f"input={given}", remedy=f"Kinds: {', '.join(KINDS)}."
        )
    _refuse_clashes(items)
    require_packages({item.source.suffix for item in items})
    return items


def _found(given: Path, output: Path) -> list[tuple[Path, Path]]:
    """Each file, and where it lies within what was given, its ending included."""
    if is_file(given):
        kind_of(given)
        return [(given, Path(given.name))]
    if is_folder(given):
        return _scans_of_sequences(given) or _below(given.rglob("*"), given, output)
    if glob.has_magic(str(given)):
        return _matching(given, output)
    raise DataError("the input does not exist", where=f"input={given}", remedy="Name a file, a folder or a pattern.")


def _scans_of_sequences(folder: Path) -> list[tuple[Path, Path]]:
    if is_folder(folder / "velodyne"):
        sequences = [folder]
    else:
        try:
            sequences = sequence_folders(find_sequences(folder))
        except DataError:
            return []  # a folder of another layout
    return [
        # made absolute for the name of `input=.`, and not resolved: a link has a name of its own
        (file, Path("sequences", Path(os.path.abspath(sequence)).name, "predictions", file.name))  # noqa: PTH100
        for sequence in sequences
        for file in sorted((sequence / "velodyne").glob("*.bin"))
    ]


def _below(files: Iterable[Path], base: Path, output: Path) -> list[tuple[Path, Path]]:
    """Clouds, without what lies in the output folder, and where they lie."""
    own = output.resolve()
    inside = own != base.resolve()  # labels beside the clouds leave no other way to tell them apart than their names
    clouds = clouds_among(files, base)
    return [(file, file.relative_to(base)) for file in clouds if not (inside and file.resolve().is_relative_to(own))]


def _matching(pattern: Path, output: Path) -> list[tuple[Path, Path]]:
    base = _plain_part(pattern)
    try:
        return _below(base.glob(str(pattern.relative_to(base))), base, output)
    except ValueError as error:
        raise ConfigError(
            f"not a pattern of files ({error})", where=f"input={pattern}", remedy="Such as 'scans/**/*.pcd'."
        ) from error


def _plain_part(pattern: Path) -> Path:
    """The folders before the first wildcard."""
    plain = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        plain.append(part)
    return Path(*plain)


def target_of(place: Path, write: str) -> Path:
    """The result's name, from the file's.

    Raises:
        ConfigError: if the file's kind has no room for labels, which `write` asks for.
        DataError: if it is of no kind that is read.

    Example:
        >>> target_of(Path("scans/000000.bin"), "auto")
        PosixPath('scans/000000.label')
    """
    own = has_own_kind(place)
    if write == "own" and not own:
        raise ConfigError(
            f"a {place.suffix} file has no room for labels", where="write=own", remedy="Use write=auto or write=label."
        )
    return place if own and write != "label" else place.with_suffix(LABEL_SUFFIX)


def _refuse_clashes(items: list[Item]) -> None:
    first: dict[Path, Path] = {}
    sources = {item.source.resolve() for item in items}
    for item in items:
        if item.target.resolve() in sources:
            raise ConfigError(
                "the result would overwrite a cloud", where=item.target, remedy="Name another output folder."
            )
        if item.target in first:
            raise ConfigError(
                f"{first[item.target]} and {item.source} would both become {item.target.name}",
                where="output",
                remedy="Predict one kind at a time, such as input='DIR/**/*.bin', into folders of their own.",
            )
        first[item.target] = item.source
