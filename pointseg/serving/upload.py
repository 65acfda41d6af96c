"""A file of a multipart body: taken out, looked at before it is opened, and read like any other file of points.

A small file may hold, or claim to hold, a thousand times its size; what it would take is asked of its header first.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pointseg.core.errors import ConfigError, DataError
from pointseg.data.formats import KINDS, PointCloud, count_points, read_cloud, require_packages
from pointseg.data.formats.las import CHUNK
from pointseg.data.formats.pcd import size_pcd
from pointseg.data.formats.ply import lists_ply
from pointseg.serving.refusal import Refusal
from pointseg.serving.wire import Limits

__all__ = ["MULTIPART", "read_upload"]

MULTIPART = "multipart/form-data"
FIELD = "file"
MOST_PARTS = 16
FORM_LIMITS = {"MAX_MEMORY_FILE_SIZE": 1 << 40, "MAX_HEADER_COUNT": 16, "MAX_HEADER_SIZE": 2048}  # nothing goes to disk
LIST_BYTES = 128  # of an array in memory, however short
SHAPE = f"Send one part named {FIELD}, with a file name: curl -F {FIELD}=@street.laz"


def read_upload(body: bytes, content_type: str, limits: Limits, extra: Sequence[str] = ()) -> PointCloud:
    """The cloud in the one file of a form; points that are not finite are kept, as `predict` does.

    Args:
        extra: further columns that the model needs.

    Raises:
        Refusal: 400 for a form or file that cannot be read, 413 for too many points, 415 for a kind that is not known or
            whose package is not installed, 422 for a form without a file, or with more.

    Example:
        >>> read_upload(body, "multipart/form-data; boundary=X", Limits()).points.shape
        (120000, 4)
    """
    name, content = _file_of_form(body, content_type)
    suffix = Path(name).suffix.lower()
    if suffix not in KINDS:
        text = f"{suffix[:20]} is no kind of file that is read" if suffix else "the file name has no ending"
        raise Refusal(415, text, where=FIELD, remedy=f"Kinds: {', '.join(KINDS)}.")
    try:
        require_packages([suffix])
    except ConfigError:
        text = f"{suffix} is not read here: its package is not installed"
        raise Refusal(415, text, where=FIELD, remedy="Send octets, or a .bin, .npy or .npz file.") from None
    with TemporaryDirectory(prefix="pointseg-") as folder:
        path = Path(folder) / f"cloud{suffix}"
        path.write_bytes(content)
        del content, body
        try:
            _refuse_too_large(path, limits)
            cloud = read_cloud(path, extra=extra)
        except DataError as error:
            what = error.what.replace(str(path), "the file")
            raise Refusal(400, what, where=FIELD, remedy=error.remedy) from None
        except (MemoryError, Refusal):
            raise
        except Exception as error:  # the file is a caller's, and what is wrong in it is no fault of the service
            text = f"the file cannot be read ({type(error).__name__})"
            raise Refusal(400, text, where=FIELD, remedy="It is damaged or of another kind.") from error
    if len(cloud.points) > limits.points:
        raise _too_many(len(cloud.points), limits)
    return cloud


def _too_many(points: int, limits: Limits) -> Refusal:
    text = f"{points:,} points are more than the {limits.points:,} of one request"
    return Refusal(413, text, where=FIELD, remedy="Send the cloud in parts.")


# ---- the form --------------------------------------------------------------------------------------------------------


def _file_of_form(body: bytes, content_type: str) -> tuple[str, bytes]:
    """Name and content of the one file."""
    from python_multipart.multipart import Field, File, FormParser, parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise Refusal(400, "the form has no boundary", where="Content-Type", remedy=SHAPE)
    parts: list[Field | File] = []
    ended: list[bool] = []

    def take(part: Field | File) -> None:
        if len(parts) > MOST_PARTS:
            raise ValueError("too many parts")
        parts.append(part)

    try:
        parser = FormParser(MULTIPART, take, take, lambda: ended.append(True), boundary, config=FORM_LIMITS)
        parser.write(body)
        parser.finalize()
    except (ValueError, IndexError, AssertionError) as error:  # its FormParserError is a ValueError
        reason = str(error).partition("\n")[0][:120]
        raise Refusal(400, f"the form cannot be read ({reason})", where="body", remedy=SHAPE) from None
    if not ended:
        raise Refusal(400, "the form is cut off", where="body", remedy="Send it again.")
    others = sorted({_text(part.field_name) for part in parts} - {FIELD})
    if others:
        raise Refusal(422, f"there is no field {others[0][:40]!r}", where="body", remedy=SHAPE)
    files = [part for part in parts if isinstance(part, File) and part.file_name]
    if len(parts) != 1 or not files:
        text = "the form has no file" if len(parts) < 2 else f"the form has {len(parts)} files"
        raise Refusal(422, text, where="body", remedy=SHAPE)
    files[0].file_object.seek(0)
    return _text(files[0].file_name), files[0].file_object.read()


def _text(name: bytes | None) -> str:
    return (name or b"").decode("utf-8", "replace")


# ---- what a file would take ------------------------------------------------------------------------------------------


def _refuse_too_large(path: Path, limits: Limits) -> None:
    """Raises Refusal 413 by what the file's header says, DataError if it cannot be read."""
    points = count_points(path)
    if points is not None and points > limits.points:
        raise _too_many(points, limits)
    size = EXPANDED[path.suffix](path) if path.suffix in EXPANDED else 0
    if size > limits.expanded:
        text = f"the file holds {size:,} bytes when expanded, more than {limits.expanded:,}"
        raise Refusal(413, text, where=FIELD, remedy="Send the cloud in parts.")


def _npz_bytes(path: Path) -> int:
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return 0  # the reader says what is wrong


def _ply_bytes(path: Path) -> int:
    """Of lists, such as faces: a byte of the file may become an array of its own. Numbers take what they take there."""
    return lists_ply(path) * LIST_BYTES


def _las_bytes(path: Path) -> int:
    """Of the chunk of records that is in memory at once."""
    with open(path, "rb") as file:
        head = file.read(107)
    return int.from_bytes(head[105:107], "little") * min(CHUNK, count_points(path) or 0)


def _parquet_bytes(path: Path) -> int:
    """Of numbers: a dictionary's repeated texts may take any space, so columns of texts are refused."""
    from pointseg.core.optional_packages import needed
    from pointseg.data.formats.columns import point_columns

    file = needed("pyarrow.parquet", "formats", "Parquet")
    types = needed("pyarrow.types", "formats", "Parquet")
    try:
        schema = file.read_schema(path)
        rows = file.read_metadata(path).num_rows
        columns, remission = point_columns(schema.names, path)
        kinds = {name: schema.field(name).type for name in [*columns, *([remission] if remission else [])]}
    except (OSError, ValueError, KeyError):  # the last: of two columns of one name
        return 0  # the reader says what is wrong
    for name, kind in kinds.items():
        if not (types.is_floating(kind) or types.is_integer(kind)):
            raise DataError(f"the column {name} holds no numbers", where=path, remedy="Write it as float or integer.")
    return int(rows) * 8 * 4


EXPANDED: dict[str, Callable[[Path], int]] = {
    ".npz": _npz_bytes,
    ".pcd": size_pcd,
    ".ply": _ply_bytes,
    ".las": _las_bytes,
    ".laz": _las_bytes,
    ".parquet": _parquet_bytes,
}
