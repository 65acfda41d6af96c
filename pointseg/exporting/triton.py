"""Write a model repository for NVIDIA Triton: `NAME/config.pbtxt` and `NAME/1/model.onnx`, NAME such as `pointnetseg`."""

from __future__ import annotations

from pathlib import Path

from pointseg.core.files import write_text
from pointseg.engine.bundle import TrainedModel
from pointseg.engine.onnx_model import INPUT, OUTPUT
from pointseg.exporting.onnx_file import ExportCheck, export_onnx, graph_name

__all__ = ["REPOSITORY", "export_triton", "triton_repository"]

REPOSITORY = "model_repository"  # not "triton": torch's own `import triton` would find a folder of that name

# max_batch_size counts clouds. Triton joins only requests whose clouds have the same number of points, since the other
# dimensions of a batch must agree; so no cloud is padded, and results do not depend on other requests.
CONFIG = """\
name: "{name}"
backend: "onnxruntime"
max_batch_size: 32
input [
  {{
    name: "{input}"
    data_type: TYPE_FP32
    dims: [ -1, {features} ]
  }}
]
output [
  {{
    name: "{output}"
    data_type: TYPE_FP32
    dims: [ -1, {classes} ]
  }}
]
instance_group [
  {{
    count: 1
    kind: KIND_AUTO
  }}
]
dynamic_batching {{
  max_queue_delay_microseconds: 1000
}}
"""


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
    name, model = graph_name(trained.model), trained.model
    place = Path(folder) / REPOSITORY / name
    check = export_onnx(trained, place / "1")
    text = CONFIG.format(name=name, input=INPUT, output=OUTPUT, features=model.in_features, classes=model.num_classes)
    write_text(place / "config.pbtxt", text)
    return check


def triton_repository(trained: TrainedModel, folder: Path) -> Path:
    """`export_triton` into `folder`; returns the repository, which is what a registry keeps."""
    export_triton(trained, folder)
    return folder / REPOSITORY
