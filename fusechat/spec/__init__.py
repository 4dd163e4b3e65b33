"""The FuseJob: its fields and their bounds, rules between fields, and reading one from a file with line numbers.

`job` is the root of the models, `rules` the checks that need several fields, `load` the way in. Pure but for reading
the file; nothing here plans or runs anything.
"""
