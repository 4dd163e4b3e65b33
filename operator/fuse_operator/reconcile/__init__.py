"""What to do about a FuseJob: one pure function from what was observed to actions, a status and events.

reconcile.py     the chain of policies: the entry          passes.py        one pass over a job that goes on
input.py         a pass's input, read once                 views.py         raw Jobs and pods, typed
graph.py         stages and digests of the spec            stage.py         one stage as it is found
entry.py         an entry: every transition, every counter
advance.py       the table of transitions by what is seen  attempts.py      what became of a Job
ends.py          the end of a run, and what it counts for
waiting.py       why pods do not run                       timing.py        back-off, deadline, timers
edits.py         edits, retries, new plans                 starts.py        what starts
removal.py       what goes, is replaced, or rests          conditions.py    where the job stands; kubectl's columns
events.py        what changed                              writing.py       whether a status is written
reasons.py       every reason                              notation.py      how Kubernetes writes times and indexes
"""

from fuse_operator.reconcile.reconcile import reconcile

__all__ = ["reconcile"]
