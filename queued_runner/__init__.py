"""The persistent queue, its dispatcher, its HTTP API and its command line."""
