"""Scans as tables with one row a point: Parquet or CSV, and the MLTable file by which Azure Machine Learning reads them."""

from pointseg.data.tabular.export import export_csv, export_parquet
from pointseg.data.tabular.folder import find_tables
from pointseg.data.tabular.mltable import MLTABLE, check_mltable

__all__ = ["MLTABLE", "check_mltable", "export_csv", "export_parquet", "find_tables"]
