"""Coverage-guided fuzzing of the decoder and of `Connection`, both roles, both codecs.

    pip install -e '.[fuzz]'
    python fuzz/decoder.py -runs=1000000

It begins with `fuzz/corpus`. What breaks an invariant is written to a file `crash-…`: mend it, and
keep that file in the corpus, which the tests run too. Options are libFuzzer's; a folder in their
place, `python fuzz/decoder.py FOLDER -runs=…`, also collects what it finds new ways with.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["remote_runner"]):
    from invariants import check

CORPUS = Path(__file__).parent / "corpus"

if __name__ == "__main__":
    atheris.Setup([*sys.argv, str(CORPUS)], check)
    atheris.Fuzz()
