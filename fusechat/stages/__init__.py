"""One module per kind of stage: `run(context)` reads inputs, calls the science, writes outputs, reports progress.

How a kind is planned is in `fusechat.plan.kinds`, how its process starts and ends in `fusechat.worker`.
"""
