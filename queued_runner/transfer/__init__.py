"""A queue as lines of JSON: out of one store, and into another. For queues at rest."""
