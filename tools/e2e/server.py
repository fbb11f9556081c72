"""Starts, watches, kills and restarts `basalt serve` for the end-to-end tests.

Invariants: every process is stopped by its own id; every address is on 127.0.0.1; what a server wrote
to stderr is kept in a file and shown when its start fails. With E2E_ENDPOINT set the server is somebody
else's: `External` answers the same questions, and tests that need the process skip and say so.
"""

import contextlib
import copy
import itertools
import os
import pathlib
import random
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

REPO = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))
BINARY = pathlib.Path(os.environ.get("E2E_BASALT", TARGET / "release" / "basalt"))
# Drives need a file system with O_DIRECT, which a tmpfs /tmp may lack; target/ is on the disk of the tree.
# Tests that run beside each other have a folder each.
SCRATCH = pathlib.Path(os.environ.get("E2E_SCRATCH", TARGET / "e2e")) / os.environ.get("PYTEST_XDIST_WORKER", "")

ACCESS_KEY = os.environ.get("E2E_ACCESS_KEY", "e2eroot")
SECRET_KEY = os.environ.get("E2E_SECRET_KEY", "e2e-secret-of-the-tests")
REGION = "us-east-1"

# A start replays at most 64 MiB of log; 30 s is that on a slow disk beside a busy neighbour.
START_DEADLINE_S = 30


# Below those that Linux gives to clients' sockets (32768 and up): a server must get its port again at a restart, however
# many connections others open meanwhile. Tests that run beside each other look in a range each.
PORTS_BEGIN, PORTS_A_WORKER, WORKERS_MAX = 12_000, 2_000, 10
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
ports = itertools.count(random.randrange(PORTS_A_WORKER))


def free_port():
    """A port that nobody listens on, and that is not given again before 2,000 others were."""
    for _ in range(PORTS_A_WORKER):
        port = PORTS_BEGIN + WORKER % WORKERS_MAX * PORTS_A_WORKER + next(ports) % PORTS_A_WORKER
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def until(condition, deadline_s, what):
    """Polls `condition` until it is true; its last value, or an error that says what was awaited."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"after {deadline_s} s still not: {what}")
        time.sleep(0.05)


# Trusted by every client: Go, minio-py and OpenSSL read the first of these variables, botocore the second, curl the
# third, requests the last.
# The environment before that, for programs that reach further than the tests do.
HOST_ENV = dict(os.environ)
CA_PATH = SCRATCH / "ca.pem"
TRUST = dict.fromkeys(("SSL_CERT_FILE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"), str(CA_PATH))


def clean_env(**more):
    """The caller's environment without settings that would reach into a server or a client."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("BASALT_", "AWS_", "RCLONE_", "S3_"))}
    if CA_PATH.exists():
        env.update(TRUST)
    env.update({k: str(v) for k, v in more.items()})
    return env


class External:
    """A server that these tests did not start: no process, no drives."""

    external = True

    def __init__(self, endpoint):
        self.secure = endpoint.startswith("https://")
        self.endpoint = endpoint.rstrip("/")
        host = self.endpoint.split("//", 1)[1]
        self.host, port = host.rsplit(":", 1)
        self.port = int(port)
        self.pid = int(os.environ["E2E_PID"]) if "E2E_PID" in os.environ else None


class Server:
    """One `basalt serve` over directories of its own."""

    external = False

    def __init__(self, name, drives=1, redundancy=None, memory=None, env=None, args=(), tls=None):
        """`tls` is (certificate file, key file): the server then listens for https too, see `over_tls`."""
        self.root = SCRATCH / name
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        self.drives = [self.root / f"d{i + 1}" for i in range(drives)]
        self.redundancy, self.memory = redundancy, memory
        self.env, self.args, self.tls = dict(env or {}), list(args), tls
        self.secure = False
        self.host = "127.0.0.1"
        self.port, self.admin_port, self.tls_port = free_port(), free_port(), free_port()
        self.endpoint = f"http://{self.host}:{self.port}"
        self.admin = f"http://{self.host}:{self.admin_port}"
        self.log_path = self.root / "stderr.log"
        self.out_path = self.root / "stdout.log"
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def over_tls(self):
        """This server as those see it who come by https; it is started and stopped as the other."""
        other = copy.copy(self)
        other.port, other.secure = self.tls_port, True
        other.endpoint = f"https://{self.host}:{self.tls_port}"
        return other

    def command(self):
        command = [str(BINARY), "serve", "--listen", f"http://{self.host}:{self.port}"]
        if self.tls:
            command += ["--listen", f"https://{self.host}:{self.tls_port}"]
            command += ["--tls-cert", str(self.tls[0]), "--tls-key", str(self.tls[1])]
        command += ["--admin-listen", f"{self.host}:{self.admin_port}"]
        if self.redundancy:
            command += ["--redundancy", self.redundancy]
        if self.memory:
            command += ["--memory", str(self.memory)]
        return command + self.args + [str(d) for d in self.drives]

    def start(self):
        """Starts the process and returns the seconds until /readyz said yes."""
        begun = time.monotonic()
        env = clean_env(BASALT_ROOT_ACCESS_KEY=ACCESS_KEY, BASALT_ROOT_SECRET_KEY=SECRET_KEY, **self.env)
        with open(self.log_path, "ab") as err, open(self.out_path, "ab") as out:
            self.process = subprocess.Popen(
                self.command(), stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=env, cwd=self.root
            )
        try:
            until(self.ready_or_dead, START_DEADLINE_S, "ready")
        except TimeoutError as late:
            self.kill9()
            raise AssertionError(f"{late}\n{self.log_tail()}") from None
        return time.monotonic() - begun

    def ready_or_dead(self):
        if self.process.poll() is not None:
            raise AssertionError(
                f"the server ended with {self.process.returncode} at its start\n{self.log_tail()}"
            )
        return self.probe("/readyz") == 200

    def probe(self, path):
        try:
            with urllib.request.urlopen(self.admin + path, timeout=2) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill9(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, deadline_s=30):
        """SIGTERM, then the exit code; a server that does not end in time is killed and reported."""
        if self.process is None:
            return None
        if self.running():
            self.process.terminate()
            try:
                self.process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self.kill9()
                raise AssertionError(f"SIGTERM was not obeyed within {deadline_s} s\n{self.log_tail()}") from None
        return self.process.returncode

    def restart(self):
        """Kills what still runs, starts again on the same drives; the seconds until ready."""
        if self.running():
            self.kill9()
        return self.start()

    def log_tail(self, lines=40):
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return f"--- last lines of {self.log_path.name}\n" + "\n".join(text.splitlines()[-lines:])

    def allocated_bytes(self):
        """(bytes that the drives hold outside their metadata log, bytes of the log), by st_blocks."""
        data = log = 0
        for drive in self.drives:
            for folder, _, files in os.walk(drive):
                of_log = any("log" in part for part in pathlib.Path(folder).relative_to(drive).parts)
                for file in files:
                    try:
                        size = os.lstat(os.path.join(folder, file)).st_blocks * 512
                    except FileNotFoundError:
                        continue
                    if of_log:
                        log += size
                    else:
                        data += size
        return data, log

    def remove(self):
        self.stop()
        if not os.environ.get("E2E_KEEP"):
            shutil.rmtree(self.root, ignore_errors=True)


def status_of(pid, field):
    """One line of /proc/PID/status in bytes (VmRSS, VmHWM)."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def open_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
