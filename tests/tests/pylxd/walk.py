"""Uses pylxd as its documentation shows it: walk.py URL SOCKET TOKEN IMAGE MEMBER. Prints `ok: FEATURE`, `failed: FEATURE`,
or `skipped: FEATURE: why`."""

import hashlib
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings

import pylxd
from pylxd.exceptions import ClientConnectionFailed, LXDAPIException, NotFound

URL, SOCKET, TOKEN, IMAGE, MEMBER = sys.argv[1:6]
warnings.simplefilter("ignore")  # of attributes that this version does not know
FOLDER = tempfile.mkdtemp()
CERT = (f"{FOLDER}/client.crt", f"{FOLDER}/client.key")
SERVER = f"{FOLDER}/server.crt"


def client(**more):
    return pylxd.Client(endpoint=URL, cert=CERT, verify=SERVER, **more)


def refused(error, call):
    try:
        call()
    except error as raised:
        return raised
    raise AssertionError(f"{call} went well")


def eventually(look):
    """Looks until there is something to be found: what a guest or another member does by itself."""
    deadline = time.time() + 60
    while not (found := look()):
        assert time.time() < deadline
        time.sleep(0.2)
    return found


def authenticate():
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes"]
        + ["-days", "2", "-subj", "/CN=pylxd", "-out", CERT[0], "-keyout", CERT[1]],
        check=True,
        capture_output=True,
    )
    host, port = URL.removeprefix("https://").split(":")
    with open(SERVER, "w") as file:
        file.write(ssl.get_server_certificate((host, int(port))))
    c = client()
    assert not c.trusted
    refused(LXDAPIException, lambda: c.instances.all())
    c.authenticate(TOKEN)
    assert c.trusted
    assert client().trusted


def socket():
    c = pylxd.Client(endpoint=SOCKET)
    assert c.trusted and c.server_clustered
    c.instances.create({"name": "s1", "source": {"type": "none"}}, wait=True)
    assert c.instances.exists("s1")
    c.instances.get("s1").delete(wait=True)


def create():
    c = client()
    config = {
        "name": "p1",
        "source": {"type": "image", "alias": "busybox"},
        "config": {"user.a": "b", "limits.memory": "128MiB"},
    }
    i = c.instances.create(config, wait=True, target=MEMBER)
    assert (i.name, i.status, i.location, i.config["user.a"]) == ("p1", "Stopped", MEMBER, "b")
    i.start(wait=True)
    assert i.status == "Running"
    assert c.containers.exists("p1")
    assert "p1" in [x.name for x in c.instances.all()]
    full = [x for x in c.instances.all(recursion=2) if x.name == "p1"]
    assert full[0].status == "Running"
    assert c.instances.get("p1") == i
    error = refused(LXDAPIException, lambda: c.instances.create(config, wait=True))
    assert "already exists" in str(error), error
    refused(NotFound, lambda: c.instances.get("nobody"))


def turns():
    i = client().instances.get("p1")
    for call, status in [
        (i.freeze, "Frozen"),
        (i.unfreeze, "Running"),
        (i.restart, "Running"),
        (i.stop, "Stopped"),
        (i.start, "Running"),
    ]:
        call(wait=True)
        i.sync()
        assert i.status == status, (call, i.status)


def state():
    i = client().instances.get("p1")
    # Its init has only just begun.
    eventually(lambda: i.state().processes > 1 and i.state().network["lo"]["addresses"])
    s = i.state()
    assert s.status == "Running" and s.pid > 1
    assert s.memory["usage"] > 0 and s.cpu["usage"] > 0
    assert "eth0" in s.network


def save():
    c = client()
    i = c.instances.get("p1")
    i.config["user.a"] = "c"
    i.description = "made by pylxd"
    i.save(wait=True)
    i = c.instances.get("p1")
    assert (i.config["user.a"], i.description) == ("c", "made by pylxd")


def pipes():
    i = client().instances.get("p1")
    code, out, err = i.execute(["sh", "-c", "echo out; echo err >&2"])
    assert (code, out, err) == (0, "out\n", "err\n"), (code, out, err)
    code, out, _ = i.execute(["cat"], stdin_payload="typed\n")
    assert (code, out) == (0, "typed\n")
    payload = os.urandom(1 << 20)
    code, out, _ = i.execute(["sha256sum"], stdin_payload=payload, stdin_encoding=None)
    assert out.split()[0] == hashlib.sha256(payload).hexdigest()
    code, out, _ = i.execute(["dd", "if=/dev/zero", "bs=65536", "count=64"], decode=False)
    assert (code, len(out)) == (0, 4 << 20), (code, len(out))
    lines = []
    i.execute(["sh", "-c", "echo one; echo two"], stdout_handler=lines.append)
    assert "".join(lines) == "one\ntwo\n"


def codes():
    i = client().instances.get("p1")
    for command, code in [(["true"], 0), (["false"], 1), (["sh", "-c", "exit 7"], 7), (["nosuch"], 127)]:
        assert i.execute(command).exit_code == code, command
    assert i.execute(["sh", "-c", "kill -9 $$"]).exit_code == 137


def who():
    i = client().instances.get("p1")
    done = i.execute(["sh", "-c", "id -u; id -g; pwd; echo $X"], {"X": "y z"}, user=1000, group=1001, cwd="/tmp")
    assert done.stdout == "1000\n1001\n/tmp\ny z\n", done


def files():
    f = client().instances.get("p1").files
    f.put("/root/a", b"\0bytes", mode=0o640, uid=12, gid=34)
    assert f.get("/root/a") == b"\0bytes"
    done = client().instances.get("p1").execute(["stat", "-c", "%a %u %g", "/root/a"])
    assert done.stdout == "640 12 34\n", done
    f.mk_dir("/root/folder", mode="0700")
    f.put("/root/folder/b", "text")
    assert f.get("/root/folder/b") == b"text"
    refused(NotFound, lambda: f.get("/root/nothing"))


def folders():
    f = client().instances.get("p1").files
    tree = f"{FOLDER}/tree"
    os.makedirs(f"{tree}/x/y")
    for name in ["x/y/deep", "top"]:
        with open(f"{tree}/{name}", "w") as file:
            file.write(name)
    os.chmod(f"{tree}/top", 0o755)
    f.mk_dir("/srv")
    f.recursive_put(tree, "/srv/tree", mode=True)
    assert f.get("/srv/tree/x/y/deep") == b"x/y/deep"
    f.recursive_get("/srv/tree", f"{FOLDER}/back")
    assert open(f"{FOLDER}/back/x/y/deep").read() == "x/y/deep"
    assert os.stat(f"{FOLDER}/back/top").st_mode & 0o777 == 0o755


def delete_files():
    f = client().instances.get("p1").files
    assert f.delete_available()
    f.delete("/root/a")
    refused(NotFound, lambda: f.get("/root/a"))
    refused(LXDAPIException, lambda: f.delete("/root/folder"))


def snapshots():
    if not client().has_api_extension("snapshot_expiry"):
        return "the server makes no snapshots"
    i = client().instances.get("p1")
    i.execute(["sh", "-c", "echo one > /root/x"])
    i.snapshots.create("s1", wait=True)
    i.execute(["sh", "-c", "echo two > /root/x"])
    i.snapshots.get("s1").rename("s2", wait=True)
    assert [s.name for s in i.snapshots.all()] == ["s2"]
    i.stop(wait=True)
    i.restore_snapshot("s2", wait=True)
    i.start(wait=True)
    assert i.files.get("/root/x") == b"one\n"
    i.snapshots.get("s2").delete(wait=True)
    assert i.snapshots.all() == []
    return None


def profiles():
    c = client()
    p = c.profiles.create("pypro", config={"user.x": "1"}, devices={"eth5": {"type": "nic", "network": "basaltbr0"}})
    p.config["user.x"] = "2"
    p.save()
    p.rename("pypro2")
    p = c.profiles.get("pypro2")
    assert p.config["user.x"] == "2" and p.devices["eth5"]["network"] == "basaltbr0"
    assert {"default", "pypro2"} <= {x.name for x in c.profiles.all()}
    p.delete()
    assert not c.profiles.exists("pypro2")


def projects():
    c = client()
    p = c.projects.create("pyproj", description="of pylxd", config={"features.images": "false"})
    p.description = "changed"
    p.save()
    assert c.projects.get("pyproj").description == "changed"
    assert "pyproj" in [x.name for x in c.projects.all()]
    inside = client(project="pyproj")
    root = {"root": {"type": "disk", "path": "/", "pool": "default"}}
    inside.instances.create({"name": "in", "source": {"type": "none"}, "devices": root}, wait=True)
    # Without recursion it takes the whole end of a URL, `?project=` too, for a name.
    assert [i.name for i in inside.instances.all(recursion=1)] == ["in"] and not c.instances.exists("in")
    inside.instances.get("in").delete(wait=True)
    p.delete()


def images():
    c = client()
    with open(IMAGE, "rb") as file:
        data = file.read()
    # Another image than the one that is there: one more empty gzip member.
    data += bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    i = c.images.create(data, public=True, wait=True)
    assert i.fingerprint == hashlib.sha256(data).hexdigest()
    i.add_alias("pyimage", "of pylxd")
    i = c.images.get_by_alias("pyimage")
    assert i.public and c.images.exists(i.fingerprint) and c.images.exists("pyimage", alias=True)
    with i.export() as exported:
        assert hashlib.sha256(exported.read()).hexdigest() == i.fingerprint
    i.delete_alias("pyimage")
    i.properties["user.note"] = "x"
    i.save()
    assert c.images.get(i.fingerprint).properties["user.note"] == "x"
    i.delete(wait=True)
    assert not c.images.exists(i.fingerprint)


def events():
    c = client()
    ws = c.events(event_types={pylxd.client.EventType.Lifecycle})
    ws.connect()
    thread = threading.Thread(target=ws.run, daemon=True)
    thread.start()

    def told():
        # Other members' events may flow some time later: what happens is made to happen until it is told.
        c.instances.get("p1").restart(wait=True)
        return [m for m in ws.messages if m["metadata"].get("action") == "instance-restarted"]

    seen = eventually(told)
    assert seen[0]["metadata"]["source"] == "/1.0/instances/p1", ws.messages
    ws.close()


def hardware():
    c = client()
    n = c.networks.get("basaltbr0")
    assert n.managed and n.type == "bridge" and len(n.locations) == 3
    assert n.state().mtu == 1500
    n = c.networks.create("pybr0", type="bridge", config={"ipv4.address": "none"})
    assert c.networks.exists("pybr0")
    n.delete()
    pool = c.storage_pools.get("default")
    assert pool.driver == "dir" and pool.resources.get().space["total"] > 0
    assert any(v.name == "p1" for v in pool.volumes.all())
    assert c.resources["cpu"]["total"] > 0


def cluster():
    c = client()
    assert c.cluster.get().enabled
    members = c.cluster.members.all()
    assert len(members) == 3
    m = c.cluster.members.get(MEMBER)
    assert (m.server_name, m.status) == (MEMBER, "Online")


def certificates():
    c = client()
    mine = [x for x in c.certificates.all() if x.name == "pylxd"]
    assert len(mine) == 1 and mine[0].type == "client"


def delete():
    c = client()
    i = c.instances.get("p1")
    refused(LXDAPIException, lambda: i.delete(wait=True))
    i.stop(wait=True)
    i.delete(wait=True)
    assert not c.instances.exists("p1")


FEATURES = [
    ("library: authenticate with a token", authenticate),
    ("library: over the unix socket", socket),
    ("library: create, list, get an instance", create),
    ("library: start, stop, restart, freeze, unfreeze", turns),
    ("library: state", state),
    ("library: change and save", save),
    ("exec: pipes", pipes),
    ("exec: exit codes", codes),
    ("exec: user, group, folder, environment", who),
    ("file: push, pull, mode, owner", files),
    ("file: folders", folders),
    ("file: delete", delete_files),
    ("library: snapshots", snapshots),
    ("library: profiles", profiles),
    ("library: projects", projects),
    ("library: images, aliases, export", images),
    ("library: events", events),
    ("library: networks, storage, resources", hardware),
    ("library: cluster", cluster),
    ("library: certificates", certificates),
    ("library: delete an instance", delete),
]

for feature, test in FEATURES:
    try:
        why = test()
        print(f"skipped: {feature}: {why}" if why else f"ok: {feature}", flush=True)
    except Exception:
        print(f"failed: {feature}", flush=True)
        traceback.print_exc(file=sys.stdout)
