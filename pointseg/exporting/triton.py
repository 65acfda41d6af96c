"""A model repository for NVIDIA Triton: `pointnetseg/config.pbtxt` and `pointnetseg/1/model.onnx`."""

from __future__ import annotations

from pathlib import Path

from pointseg.bundle import TrainedModel
from pointseg.exporting.onnx_file import Check, export_onnx
from pointseg.exporting.runtime import INPUT, OUTPUT
from pointseg.files import write_text

__all__ = ["NAME", "REPOSITORY", "config_text", "export_triton"]

NAME = "pointnetseg"
REPOSITORY = "model_repository"  # not "triton": beside such a folder `import triton`, which torch tries, would find it

# max_batch_size counts clouds. Triton joins requests only if their clouds have one number of points: all other
# dimensions of a batch must agree (no ragged batching), so none is padded and results do not depend on neighbours.
CONFIG = """\
name: "{name}"
backend: "onnxruntime"
max_batch_size: {largest_batch}
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
    count: {instances}
    kind: KIND_AUTO
  }}
]
dynamic_batching {{
  max_queue_delay_microseconds: {delay}
}}
"""


def config_text(
    in_features: int, num_classes: int, *, largest_batch: int = 32, instances: int = 1, delay: int = 1000
) -> str:
    """The text of `config.pbtxt`.

    Args:
        largest_batch: clouds that Triton may join into one run.
        instances: copies of the model on each device.
        delay: microseconds that a request may wait for others.
    """
    return CONFIG.format(
        name=NAME,
        input=INPUT,
        output=OUTPUT,
        features=in_features,
        classes=num_classes,
        largest_batch=largest_batch,
        instances=instances,
        delay=delay,
    )


def export_triton(trained: TrainedModel, folder: str | Path) -> Check:
    """Write `model_repository/pointnetseg` into a folder; Triton's `--model-repository` names `model_repository`.

    The model is checked as `export_onnx` does. `model.yaml` lies beside it, so `Predictor.load` takes the version
    folder; the configuration comes last, because Triton takes up a model when it finds one.

    Raises:
        As `export_onnx`.

    Example:
        >>> export_triton(bundle.load(run_folder), "export").path
        PosixPath('export/model_repository/pointnetseg/1/model.onnx')
    """
    model = Path(folder) / REPOSITORY / NAME
    check = export_onnx(trained, model / "1")
    write_text(model / "config.pbtxt", config_text(trained.model.in_features, trained.model.num_classes))
    return check
