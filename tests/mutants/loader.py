"""A pytest plugin that imports one module from another file: MUTANT says `MODULE=FILE`, both absolute."""

from __future__ import annotations

import os
from importlib.machinery import SourceFileLoader

_path, _, _file = os.environ["MUTANT"].partition("=")
_get_code = SourceFileLoader.get_code


def _changed(loader: SourceFileLoader, fullname: str) -> object:
    if loader.get_filename(fullname) != _path:
        return _get_code(loader, fullname)
    with open(_file, "rb") as file:
        return compile(file.read(), _path, "exec", dont_inherit=True)


SourceFileLoader.get_code = _changed  # type: ignore[method-assign]
