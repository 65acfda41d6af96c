"""What data and models are worth, as numbers: validation, exploration, drift, assessment, promotion."""
