"""The `fusechat` command: one module per command, `commands.py` lists them.

Heavy imports are inside functions, so that help and checks answer at once. Commands that talk to a cluster are in
`cli.cluster`. What a command does is the business of the packages below; here arguments are read and answers printed.
"""
