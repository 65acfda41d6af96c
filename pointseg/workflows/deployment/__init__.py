"""What `deploy` does for each target: a file a target, with `check_TARGET(config)` and `deploy_TARGET(config, folder)`."""
