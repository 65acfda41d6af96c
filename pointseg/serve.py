"""Answer requests for labels over HTTP, with a page to try it. Needs the extra serve.

  python -m pointseg.serve                                                 the model in this package
  python -m pointseg.serve checkpoint=RUN_FOLDER                           http://127.0.0.1:8000, for this machine only
  python -m pointseg.serve checkpoint=models:/pointnet-semseg@champion tracking.uri=mlruns.db port=0 threads=4
  python -m pointseg.serve checkpoint=BUNDLE host=0.0.0.0 key_file=/run/secrets/key tls.certificate=cert.pem tls.key=key.pem
  POINTSEG_API_KEY=... POINTSEG_ADMIN_TOKEN=... python -m pointseg.serve checkpoint=BUNDLE host=0.0.0.0
  python -m pointseg.serve checkpoint=BUNDLE collect=collected collect_rate=0.1       statistics of scans, for report drift=
  curl -F file=@street.laz http://127.0.0.1:8000/score                                  JSON: labels, classes, notes
  curl --data-binary @000000.bin -H 'Content-Type: application/octet-stream' http://127.0.0.1:8000/score

The extra, and one for kinds of files: python -m pip install -c environments/constraints.txt -e '.[serve,formats]'
checkpoint is a .ckpt, a run folder (its best.ckpt), a bundle folder, an export, models:/NAME@ALIAS of the MLflow registry,
or street: the model in this package, which is taken where none is named.
SIGTERM and Ctrl-C finish what is in flight. POST /admin/reload takes a newer model without losing a request.
"""

from __future__ import annotations

from pointseg.cli import run


def main() -> None:
    """Entry point of `python -m pointseg.serve`."""
    run("serve", __doc__ or "")


if __name__ == "__main__":
    main()
