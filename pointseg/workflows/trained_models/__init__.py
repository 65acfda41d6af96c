"""What is done with a trained model: registered, promoted, exported."""
