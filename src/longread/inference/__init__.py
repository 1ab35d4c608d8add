"""A trained model in use: batches of tokens, predictions and what they are worth."""
