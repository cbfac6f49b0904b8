"""Jobs at rest: the contract, its engines, and the one writer."""
