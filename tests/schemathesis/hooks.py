"""Brings generated requests near to what exists, so that they reach further than the first check of a name.

Every choice follows from the generated value itself: the same seed makes the same requests.
"""

import json
import os
import zlib

import schemathesis

# Names of what exists: {"instances": ["c1"], "fingerprint": [...], ...}.
KNOWN = json.loads(os.environ["BASALT_KNOWN"])

# The certificate of the one who walks.
OWN = os.environ["BASALT_OWN"]


def dice(value, sides):
    return zlib.crc32(repr(value).encode("utf-8", "backslashreplace")) % sides


def pick(value, choices):
    return choices[dice(value, len(choices))]


def near(value):
    """Whether a value is to be replaced by one that may be right: nine times in ten, as a body has many fields."""
    return dice(value, 10) > 0


# What the walk makes is called so, and is found again by the requests that follow.
MADE = ["n%d" % number for number in range(8)]


def known(path, name):
    """What may stand for a parameter of a path: by its name, else by the kind of object that is before it."""
    if name in KNOWN:
        return KNOWN[name]
    parts = path.split("/")
    at = parts.index("{%s}" % name)
    kind = "aliases" if parts[at - 1] == "aliases" else parts[at - 1] if parts[2] == "cluster" else parts[2]
    return KNOWN.get(kind, [])


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if not path_parameters:
        return path_parameters
    result = dict(path_parameters)
    for name, value in path_parameters.items():
        choices = known(context.operation.path, name)
        if choices and near(value):
            result[name] = pick(value, choices + (MADE if name == "name" else []))
    return result


@schemathesis.hook
def before_call(context, case, kwargs):
    """A prefix names a certificate, and some requests have values that no other hook sees: "0" must not by chance be the
    certificate of the one who walks."""
    named = str((case.path_parameters or {}).get("fingerprint", "")).lower()
    if "/certificates/" in case.path and OWN.startswith(named):
        case.path_parameters["fingerprint"] = KNOWN["fingerprint"][0]


@schemathesis.hook
def map_query(context, query):
    if not query:
        return query
    result = dict(query)
    for name, choices in (("project", KNOWN["projects"]), ("target", KNOWN["members"]), ("path", KNOWN["paths"])):
        if name in result and near(result[name]):
            result[name] = pick(result[name], choices)
    # Together they are refused, which one request in ten may find out.
    if "all-projects" in result and "project" in result and near(query):
        del result["project"]
    if "filter" in result and dice(result["filter"], 3):
        result["filter"] = pick(result["filter"], ["name eq c1", "status eq running and not name eq x", ""])
    return result


@schemathesis.hook
def map_headers(context, headers):
    # A made-up ETag never fits.
    if headers and "If-Match" in headers and near(headers["If-Match"]):
        headers = {k: v for k, v in headers.items() if k != "If-Match"}
    return headers


CONFIGS = {
    "instances": [{"limits.cpu": "1"}, {"limits.memory": "64MiB", "user.a": "b"}, {"boot.autostart": "true"}],
    "profiles": [{"limits.processes": "100"}, {"environment.A": "b"}],
    "networks": [{"ipv4.address": "none"}, {"user.a": "b"}, {"ipv4.nat": "false"}],
    "storage-pools": [{"user.a": "b"}],
    "projects": [{"user.a": "b"}],
}


@schemathesis.hook
def map_body(context, body):
    if not isinstance(body, dict):
        return body
    result = dict(body)
    kind = (context.operation.path.split("/") + ["", ""])[2]
    for name in ("name", "server_name"):
        if isinstance(result.get(name), str) and near(result[name]):
            result[name] = pick(result[name], MADE)
    if isinstance(result.get("config"), dict) and near(result["config"]):
        result["config"] = pick(result["config"], CONFIGS.get(kind, [{"user.a": "b"}]))
    if isinstance(result.get("devices"), dict) and near(result["devices"]):
        result["devices"] = pick(result["devices"], [{}, {"eth7": {"type": "none"}}])
    if isinstance(result.get("profiles"), list) and near(result["profiles"]):
        result["profiles"] = pick(result["profiles"], [[], ["default"]])
    if isinstance(result.get("source"), dict) and near(result["source"]):
        result["source"] = pick(result["source"], [{"type": "none"}, {"type": "copy", "source": "c1"}])
    for name in ("type", "architecture", "instance_type", "driver"):
        if isinstance(result.get(name), str) and near(result[name]):
            result[name] = {"driver": "dir"}.get(name, "")
    if isinstance(result.get("command"), list) and near(result["command"]):
        result["command"] = ["true"]
    return result
