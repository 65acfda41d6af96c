"""Labels for files of point clouds: by a model here, by a service, or by an endpoint in Azure ML."""
