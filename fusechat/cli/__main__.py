"""`python -m fusechat.cli`: the same as `fusechat`."""

from fusechat.cli.main import main

main()
