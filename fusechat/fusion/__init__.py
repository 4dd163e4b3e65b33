"""Fusion training: from representations and alignments to a fine-tuned copy of the pivot.

`selection` chooses each conversation's teacher, `targets` makes sparse targets of it, `loss` is the fusion loss,
`training` the run. Choosing and data need no torch; loss and training do.
"""
