"""What a workspace holds: computes, datastores, environments, models and data assets, each made, changed or kept."""
