"""A trap for PyPI's pyiso8583, which installs a package ``iso8583`` too: nothing of ours is here.

Both in one environment write over each other's files. Whichever came last, pyiso8583's ``decoder.py`` lies beside this
folder. If our ``__init__.py`` was written last, it sees that file and comes here. If pyiso8583's was, none of our code
would run, and ``import iso8583`` would silently be another library; but the first thing that it imports is
``iso8583.decoder``, and of a folder and a file of one name Python takes the folder.
"""

raise ImportError(
    "pyiso8583 and gridswitch both install a package iso8583 and wrote over each other's files; keep one: "
    "pip uninstall pyiso8583, then pip install --force-reinstall --no-deps gridswitch "
    "(iso8583.compat.pyiso8583 is a drop-in for it)"
)
