# `manent run` and `manent env` name this file's directory in PYTHONPATH. It makes aiohttp, which looks at no proxy
# variables unless its user says trust_env=True, send its requests through the proxy in HTTPS_PROXY. Requests for which a
# proxy is named on purpose are left alone, and nothing else about them changes.
import os
import sys


def _run_hidden():
    """Runs the sitecustomize that would have been found without this one, such as a distribution's."""
    from importlib import machinery, util

    here = os.path.dirname(os.path.abspath(__file__))
    places = [place for place in sys.path if os.path.abspath(place or ".") != here]
    spec = machinery.PathFinder.find_spec("sitecustomize", places)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(util.module_from_spec(spec))


class _Finder(object):
    """Finds aiohttp.client as the others do, and changes it once it is loaded."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "aiohttp.client":
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if finder is not cls and find is not None else None
            if spec is not None:
                break
        else:
            return None
        execute = getattr(spec.loader, "exec_module", None)
        if execute is not None:

            def exec_module(module):
                execute(module)
                _lead_through_proxy(module)

            spec.loader.exec_module = exec_module
        return spec


def _lead_through_proxy(module):
    session = getattr(module, "ClientSession", None)
    request = getattr(session, "_request", None)
    if request is None:
        return

    def _request(self, *args, **kwargs):
        proxy = os.environ.get("HTTPS_PROXY")
        named = kwargs.get("proxy") or getattr(self, "_default_proxy", None)
        if proxy and not named and not getattr(self, "_trust_env", False):
            kwargs["proxy"] = proxy
        return request(self, *args, **kwargs)

    session._request = _request


if sys.version_info[0] >= 3:
    try:
        _run_hidden()
    finally:
        sys.meta_path.insert(0, _Finder)
