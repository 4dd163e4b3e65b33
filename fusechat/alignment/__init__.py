"""A source's representation of a conversation, put onto the pivot's tokens and vocabulary.

    options.py        what a job may choose
    tokens.py         which source row serves a pivot row, by bytes; the source's nats over the pivot's bytes
    dtw.py            the same question answered as the release does, by dynamic time warping
    pair_counts.py    which tokens start at the same byte, counted over the corpus
    vocabulary.py     source id -> pivot id
    edit_distance.py  the nearest piece, for one of its modes
    prefixes.py       the one row a message where a template's whitespace is inside the first piece
    distribution.py   top-k rows under that mapping
    fractions.py      what the report says about it
    align.py          one conversation through all of them

Selecting a teacher is fusion's business. Nothing here imports torch.
"""
