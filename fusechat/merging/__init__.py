"""Several targets and their pivot, merged into one model in parameter space.

    registry.py        from a method's name to its formula; the methods are described in fusechat.spec.merge_methods
    parameters.py      what a person gives, checked and made what a formula takes; both import nothing heavy
    checkpoint.py      a model directory's tensors, read slice by slice
    elements.py        on-disk number formats <-> float64
    compatibility.py tokenizers.py    refuse targets that are not the pivot's shape, vocabulary or architecture
    layout.py          layers, groups, depth and tied weights, from tensor names alone
    tensor.py          one tensor of the pivot and all targets, as a method sees it
    selection.py       the k largest elements of a tensor that is never held whole
    varm.py sce.py slerp.py arithmetic.py ties.py dare.py    the formulas
    plan.py            what happens to each tensor
    streaming.py       runs that plan on several threads
    writer.py          safetensors out, sharded, byte for byte the same every time
    report.py          which target got how much of what
    merge.py           all of these in order

All arithmetic is float64 numpy over slices of a tensor, one thread a tensor: a result depends neither on the number of
threads nor on a BLAS, memory does not grow with the model, and torch is not needed. Tensors are compared by their
names on disk, because a library may join several of them (experts) in memory.
"""
