"""The local executor: runs the stages of a plan as processes on one machine, side by side where that fits.

`schedule` and `state` decide and are pure; `local` is the loop; `child` and `processes` are a stage's process. What the
process does is in `fusechat.worker`.
"""
