"""Find the files to predict and name the files of their labels.

The input is a file, a folder, a pattern, or a data set in SemanticKITTI's layout, whose labels go where the benchmark expects
them: sequences/SS/predictions/FRAME.label. Otherwise the output repeats the folders of the input.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.files import expanded, is_file, is_folder
from pointseg.data.formats import KINDS, LABEL_SUFFIX, has_own_kind, kind_of, require_packages
from pointseg.data.formats.cloud_files import PROBABILITIES_SUFFIX, clouds_among
from pointseg.data.semantickitti import find_sequences, sequence_folders

__all__ = ["Item", "find_clouds", "find_items", "target_of"]

NOWHERE = Path("/nonexistent")  # in place of an output folder, whose own files would be left out
LABEL_TARGETS = ("auto", "label", "own")


class Item(NamedTuple):
    """A file to predict, and the file for its labels."""

    source: Path
    target: Path

    @property
    def probabilities(self) -> Path:
        """The file for the probabilities, such as 000000.probs.npy or tile.laz.probs.npy."""
        return self.target.with_name(self.target.name.removesuffix(LABEL_SUFFIX) + PROBABILITIES_SUFFIX)


def find_items(given: str | Path, output: str | Path, write: str = "auto") -> list[Item]:
    """The files to predict, in the order of their names.

    Args:
        given: a file, a folder, a pattern such as "scans/**/*.pcd", or a data set in SemanticKITTI's layout.
        output: the folder of the results.
        write: "label" for a `.label` file, "own" for a copy of the file with labels, or "auto" for a copy if the kind can
            hold labels, else a `.label` file.

    Raises:
        DataError: if there is no readable file.
        ConfigError: if two files, or a file and its result, would have the same name, a kind cannot hold labels, or a package
            of the extra `formats` is missing.

    Example:
        >>> find_items("semantickitti", "predicted")[0].target
        PosixPath('predicted/sequences/00/predictions/000000.label')
    """
    if write not in LABEL_TARGETS:
        raise ConfigError(f"there is no {write!r}", where="write", remedy=f"Use {', '.join(LABEL_TARGETS)}.")
    given, output = expanded(given), expanded(output)
    items = [Item(source, output / target_of(place, write)) for source, place in _clouds(given, output, "input")]
    _check_kinds([item.source for item in items], given, "input")
    _refuse_clashes(items)
    return items


def find_clouds(given: str | Path, key: str = "input") -> dict[Path, Path]:
    """The files that `find_items` would find, and the place of each within the input: where nothing is written beside them.

    Args:
        key: that names the input, for messages.

    Raises:
        DataError: if there is no readable file.
        ConfigError: if a package of the extra `formats` is missing.

    Example:
        >>> find_clouds("scans")[Path("scans/drive/1.pcd")]
        PosixPath('drive/1.pcd')
    """
    given = expanded(given)
    places = dict(_clouds(given, NOWHERE, key))
    _check_kinds(places, given, key)
    return places


def _check_kinds(files: Collection[Path], given: Path, key: str) -> None:
    """Refuse an input without a cloud, and kinds whose package is missing."""
    if not files:
        remedy = f"Kinds: {', '.join(KINDS)}."
        raise DataError("there is no file of a kind that is read", where=f"{key}={given}", remedy=remedy)
    require_packages({file.suffix for file in files})


def _clouds(given: Path, output: Path, key: str) -> list[tuple[Path, Path]]:
    """Each file, and its place within the input."""
    if is_file(given):
        kind_of(given)
        return [(given, Path(given.name))]
    if is_folder(given):
        return _scans_of_sequences(given) or _below(given.rglob("*"), given, output)
    if glob.has_magic(str(given)):
        return _matching(given, output, key)
    raise DataError("the input does not exist", where=f"{key}={given}", remedy="Name a file, a folder or a pattern.")


def _scans_of_sequences(folder: Path) -> list[tuple[Path, Path]]:
    if is_folder(folder / "velodyne"):
        sequences = [folder]
    else:
        try:
            sequences = sequence_folders(find_sequences(folder))
        except DataError:
            return []  # a folder of another layout
    return [
        # absolute for the name of `input=.`, but not resolved, since a link has its own name
        (file, Path("sequences", Path(os.path.abspath(sequence)).name, "predictions", file.name))  # noqa: PTH100
        for sequence in sequences
        for file in sorted((sequence / "velodyne").glob("*.bin"))
    ]


def _below(files: Iterable[Path], base: Path, output: Path) -> list[tuple[Path, Path]]:
    """Clouds outside the output folder, and their places; labels beside their clouds are recognised by their names."""
    own = output.resolve()
    separate = own != base.resolve()
    clouds = clouds_among(files, base)
    return [(file, file.relative_to(base)) for file in clouds if not (separate and file.resolve().is_relative_to(own))]


def _matching(pattern: Path, output: Path, key: str) -> list[tuple[Path, Path]]:
    plain = itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts[:-1])
    base = Path(*plain)  # the folders before the first wildcard
    try:
        return _below(base.glob(str(pattern.relative_to(base))), base, output)
    except ValueError as error:
        raise ConfigError(
            f"not a pattern of files ({error})", where=f"{key}={pattern}", remedy="Such as 'scans/**/*.pcd'."
        ) from error


def target_of(place: Path, write: str) -> Path:
    """The name of the result for a file.

    Raises:
        ConfigError: if `write` is "own" and the file's kind cannot hold labels.
        DataError: if the kind is unknown.

    Example:
        >>> target_of(Path("scans/000000.bin"), "auto")
        PosixPath('scans/000000.label')
    """
    own = has_own_kind(place)
    if write == "own" and not own:
        remedy = "Use write=auto or write=label."
        raise ConfigError(f"a {place.suffix} file cannot hold labels", where="write=own", remedy=remedy)
    return place if own and write != "label" else place.with_suffix(LABEL_SUFFIX)


def _refuse_clashes(items: list[Item]) -> None:
    first: dict[Path, Path] = {}
    sources = {item.source.resolve() for item in items}
    for item in items:
        if item.target.resolve() in sources:
            remedy = "Name another output folder."
            raise ConfigError("the result would overwrite a cloud", where=item.target, remedy=remedy)
        if item.target in first:
            raise ConfigError(
                f"{first[item.target]} and {item.source} would both become {item.target.name}",
                where="output",
                remedy="Predict one kind at a time, such as input='DIR/**/*.bin', into folders of their own.",
            )
        first[item.target] = item.source
