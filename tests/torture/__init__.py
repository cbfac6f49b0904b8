"""Torture: the real commands, killed and cut at random moments, and what is left compared.

`python -m tests.torture KIND --cycles N --jobs J --seed S`. A job (`job.py`) writes down that it
began (the witness) and prints what can be computed again; the judge (`judge.py`) compares the
witness, the database and all output.
"""
