"""Everything that can be seen of calls of pyiso8583, or of our drop-in: to run in a process for each and compare.

    python outcomes.py MODULE FOLDER < cases.json > outcomes.json

MODULE is imported from FOLDER. A case is ``{"call", "spec", "changes", "data" or "doc"}``: what to call, which bundled
spec, changes of it by field, and a message in hex or a dict as a list of pairs. ``pp`` decodes first. The call
``specs`` gives the bundled specs.
"""

import copy
import importlib
import io
import json
import sys
from typing import Any


def shown(value: Any) -> Any:
    """For JSON: the type of bytes counts too, and the order of a dict."""
    if isinstance(value, bytes | bytearray):
        return f"{type(value).__name__} {value.hex()}"
    if isinstance(value, dict):
        return [[shown(key), shown(item)] for key, item in value.items()]
    if isinstance(value, tuple | list):
        return [shown(item) for item in value]
    return value


def outcome(module: Any, case: dict[str, Any]) -> Any:
    specs = importlib.import_module(f"{module.__name__}.specs")
    if case["call"] == "specs":
        return shown([specs.default, specs.default_ascii])
    spec = copy.deepcopy(getattr(specs, case["spec"]))
    for key, change in case["changes"].items():
        spec[key] = {**spec.get(key, {}), **change}
    data = bytes.fromhex(case.get("data", ""))
    doc = dict(case.get("doc", []))
    stream = io.StringIO()
    result: Any
    try:
        if case["call"] == "encode":
            result = module.encode(doc, spec)
        elif case["call"] == "decode":
            result = module.decode(data, spec)
        else:
            for part in module.decode(data, spec):
                module.pp(part, spec, case["desc_width"], stream, case["line_width"])
            result = stream.getvalue()
    except (module.DecodeError, module.EncodeError) as error:
        names = ("msg", "field", "pos", "s", "doc_dec", "doc_enc")
        result = [type(error).__name__, str(error), [shown(getattr(error, name, None)) for name in names]]
    except Exception as error:
        result = [type(error).__name__, str(error)]
    return [shown(result), shown(doc)]


def main() -> None:
    name, folder = sys.argv[1:]
    sys.path.insert(0, folder)
    module = importlib.import_module(name)
    assert str(module.__file__).startswith(folder), f"{name} came from {module.__file__}"
    json.dump([outcome(module, case) for case in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
