"""`python -m fusechat.cli`: the same as `fusechat`."""

from fusechat.cli.main import main

# a forked stage imports the parent's main module again
if __name__ == "__main__":
    main()
