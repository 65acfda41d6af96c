"""Prepare, train, evaluate, register and deploy as one command, on this machine or as one job in Azure ML.

python -m pointseg.pipeline                                         a synthetic world, from scans to a registered model
python -m pointseg.pipeline input=KITTI gate.miou=0.25              real scans; a model below the gate is not registered
python -m pointseg.pipeline 'train=[+experiment=kitti,trainer.max_epochs=4]' 'register=[name=my-net,promote=champion]'
python -m pointseg.pipeline 'steps=[prepare,train,evaluate,register,deploy]' 'deploy=[target=batch,endpoint=street]'
python -m pointseg.pipeline hydra.run.dir=DIR                       the same again goes on: what is unchanged is kept
python -m pointseg.pipeline 'steps=[evaluate,register]' checkpoint=RUN_FOLDER input=STORE
python -m pointseg.pipeline input=azureml:kitti:1 compute=aml_gpu light_cluster=cpu-cluster compute.wait=true
python -m pointseg.pipeline input=azureml:kitti:1 compute=aml_gpu publish=nightly schedule='0 3 * * 1'
python -m pointseg.pipeline 'steps=[drift]' input=COLLECTED checkpoint=models:/street@champion 'drift=[days=7]'
python -m pointseg.pipeline compute=aml_gpu list=true               or invoke=nightly, or remove=nightly

Exit code 3: the model is below the gate, or was not promoted; nothing is registered below the gate.
"""

from __future__ import annotations

from pointseg.cli import run


def main() -> None:
    """Entry point of `python -m pointseg.pipeline`."""
    run("pipeline", __doc__ or "")


if __name__ == "__main__":
    main()
