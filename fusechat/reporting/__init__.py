"""The report of a finished job: the page, the model card and the tables, from plain values.

`data` is everything that a report shows; it is gathered by `fusechat.stages.report`. Nothing here reads the storage.
"""
