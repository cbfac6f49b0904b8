"""The peers: other programs that do what this project does, run on the same work.

A module per peer says what the peer is, how it is run, why that is fair and what it does not do.
Each has `NAME`, `prepare(folder)`, which installs it below `folder` or raises
`benchmarks.harness.Skipped`, and then
`true_rate(folder, total)`: jobs a second for `total` times `/bin/true`, 8 at once, and
`output_rate(folder, size)`: MB/s for one job that prints `size` bytes.
Both start the peer, warm it, measure the work alone and stop it. A peer that is far slower than the
work is long does less of it: its rate is the same.
"""

from types import ModuleType

from benchmarks.peers import ancestor, buildbot, hyperqueue, hypershell, parallel

TRUE: tuple[ModuleType, ...] = (hyperqueue, ancestor, parallel, hypershell, buildbot)
OUTPUT: tuple[ModuleType, ...] = (hyperqueue, hypershell, parallel, ancestor, buildbot)
