"""What mechanisms compute with: packed batches, eager, tiled and gathered softmax attention, FAVOR+, dropout."""
