"""The Azure ML workspace: found, provisioned and cleared."""
