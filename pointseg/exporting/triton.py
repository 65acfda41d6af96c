"""Write a model repository for NVIDIA Triton: `NAME/config.pbtxt` and `NAME/1/model.onnx`, NAME such as `pointnetseg`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import TensorProto

from pointseg.core.files import write_text
from pointseg.engine.bundle import TrainedModel
from pointseg.exporting.onnx_file import ExportCheck, export_onnx, graph_name

__all__ = ["REPOSITORY", "export_triton", "triton_repository"]

REPOSITORY = "model_repository"  # not "triton": torch's own `import triton` would find a folder of that name

# max_batch_size counts clouds. Triton joins only requests whose clouds have the same number of points, since the other
# dimensions of a batch must agree; so no cloud is padded, and results do not depend on other requests. A graph with further
# inputs takes one cloud, and its dimensions are whole.
CONFIG = """\
name: "{name}"
backend: "onnxruntime"
max_batch_size: {clouds}
input [
{inputs}
]
output [
{outputs}
]
instance_group [
  {{
    count: 1
    kind: KIND_AUTO
  }}
]
"""
TENSOR = """\
  {{
    name: "{name}"
    data_type: {kind}
    dims: [ {dims} ]
  }}"""
BATCHING = """\
dynamic_batching {
  max_queue_delay_microseconds: 1000
}
"""
TYPES: dict[int, str] = {TensorProto.FLOAT: "TYPE_FP32", TensorProto.INT64: "TYPE_INT64"}
LARGEST_BATCH = 32


def export_triton(trained: TrainedModel, folder: str | Path) -> ExportCheck:
    """Write `model_repository/NAME` into a folder, NAME being the model's class in lower case.

    The model is checked as in `export_onnx`. `model.yaml` lies beside it, so `Predictor.load` takes the version folder.
    The configuration is written last, because Triton loads a model as soon as it finds one.

    Raises:
        PointsegError: as `export_onnx`.

    Example:
        >>> export_triton(bundle.load(run_folder), "export").path
        PosixPath('export/model_repository/pointnetseg/1/model.onnx')
    """
    name = graph_name(trained.model)
    place = Path(folder) / REPOSITORY / name
    check = export_onnx(trained, place / "1")
    write_text(place / "config.pbtxt", _config(name, onnx.load(check.path).graph))
    return check


def _config(name: str, graph: onnx.GraphProto) -> str:
    batched = len(graph.input) == 1
    text = CONFIG.format(
        name=name,
        clouds=LARGEST_BATCH if batched else 0,
        inputs=_tensors(graph.input, batched),
        outputs=_tensors(graph.output, batched),
    )
    return text + (BATCHING if batched else "")


def _tensors(values: Iterable[onnx.ValueInfoProto], batched: bool) -> str:
    """Descriptions of inputs or outputs; the first dimension is left out where Triton adds it, -1 is any size."""
    texts = []
    for value in values:
        tensor = value.type.tensor_type
        dims = [dim.dim_value or -1 for dim in tensor.shape.dim][1 if batched else 0 :]
        texts.append(TENSOR.format(name=value.name, kind=TYPES[tensor.elem_type], dims=", ".join(map(str, dims))))
    return ",\n".join(texts)


def triton_repository(trained: TrainedModel, folder: Path) -> Path:
    """`export_triton` into `folder`; returns the repository, which is what a registry keeps."""
    export_triton(trained, folder)
    return folder / REPOSITORY
