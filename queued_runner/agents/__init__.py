"""Agents that pull jobs over HTTP: the contract of the second ancestor as one more runner."""
