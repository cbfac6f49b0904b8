"""Small, realistic bugs, put into the product by patches: the simulator must find each of them.

`python -m tests.sim.mutants` prints which seed is the first to find which, and what it violates.
Each module has those of one subject, and registers them.
"""

from tests.sim.mutants import (  # noqa: F401
    ahead,
    dependencies,
    durability,
    ends,
    jobs,
    leases,
    offsets,
    servers,
    telling,
    wide,
)
