"""The scoring image as a container group of Azure Container Instances."""
