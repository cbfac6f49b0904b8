"""For tests of programs that embed the runner, and of plugs: services, a fake worker, a contract.

`fixtures.py` has the pytest fixtures and `conformance.py` the contract of `JobRunner`; both need
pytest, which this package does not install. Nothing of the product imports anything of this.
"""
