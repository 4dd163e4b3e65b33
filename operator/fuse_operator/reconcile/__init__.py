"""What to do about a FuseJob: one pure function from what was observed to actions, a status and events.

reconcile.py   the chain of policies: the entry      passes.py       one pass over a job that goes on
given.py       a pass's input, read once             job_view.py, pod_view.py, raw.py   typed readings
graph.py       stages and digests of the spec        render.py       children of a stage's run
stage.py       one stage as it is found              steps.py        from its Job to its next entry
attempts.py    what became of a Job                  counting.py     failures, preemptions, accelerator time
waiting.py     why a Job's pods do not run           gangs.py        all pods or none
edits.py       edits, retries, new plans             planning.py     whether a plan can be carried out
starts.py      what starts                           backoff.py      when
replacing.py   what is made anew                     removals.py     what goes
suspension.py  spec.suspend                          deadline.py     deadline and time to live
stopping.py    a job that cannot go on               conditions.py   where the job stands
columns.py     kubectl's columns, the result         events.py       what changed
reasons.py     every reason                          timers.py       when to look again
writing.py     whether a status is written           times.py, ranges.py   how Kubernetes writes them
"""

from fuse_operator.reconcile.reconcile import reconcile

__all__ = ["reconcile"]
