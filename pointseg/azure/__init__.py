"""Azure Machine Learning: the only place that imports azure.*, on use. Needs: pip install -e '.[azure]'."""
