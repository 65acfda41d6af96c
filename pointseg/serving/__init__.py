"""A trained model behind HTTP: the contract of requests and answers, the queue before the model, and the servers."""
