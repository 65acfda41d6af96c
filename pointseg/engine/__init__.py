"""From points to labels and back: losses, scores, training, bundles, prediction."""
