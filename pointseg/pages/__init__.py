"""Pictures, HTML pages and the 3D viewer."""
