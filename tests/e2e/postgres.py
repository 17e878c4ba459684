"""A PostgreSQL server of its own on loopback, which a test may kill and start again."""

import glob
import os
import pwd
import signal
import subprocess

import psycopg2

from harness import free_port, wait_for


def binary(name):
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    if not found:
        raise AssertionError(f"no {name}: is a Debian package postgresql-NN installed?")
    return found[-1]


def as_postgres():
    """PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]


class Postgres:
    """Its data in a folder of `directory`; whoever may use loopback is its superuser."""

    def __init__(self, directory, **settings):
        self.data = os.path.join(directory, "postgres")
        self.port = free_port()
        self.settings = settings
        self.process = None
        os.mkdir(self.data, 0o700)
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.data, account.pw_uid, account.pw_gid)
            # It has to get there.
            parent = os.path.abspath(directory)
            while os.stat(parent).st_uid == 0 and not os.stat(parent).st_mode & 0o001:
                os.chmod(parent, os.stat(parent).st_mode | 0o011)
                parent = os.path.dirname(parent)
        subprocess.run([*as_postgres(), binary("initdb"), "-D", self.data, "-U", "postgres",
                        "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
                       check=True, stdout=subprocess.DEVNULL, cwd="/")

    @property
    def dsn(self):
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"

    def ask(self, statement):
        """In a transaction of its own; the rows, if there can be any."""
        connection = psycopg2.connect(self.dsn)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def start(self):
        settings = {"port": self.port, "listen_addresses": "127.0.0.1",
                    "unix_socket_directories": self.data, **self.settings}
        with open(os.path.join(os.path.dirname(self.data), "postgres.log"), "ab") as log:
            self.process = subprocess.Popen(
                [*as_postgres(), binary("postgres"), "-D", self.data,
                 *(f"-c{name}={value}" for name, value in settings.items())],
                stdout=log, stderr=log, cwd="/")
        wait_for(self._ready, 60, "PostgreSQL takes connections")

    def _ready(self):
        if self.process.poll() is not None:
            raise AssertionError("PostgreSQL ended at once; see postgres.log")
        return subprocess.run([binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)],
                              check=False).returncode == 0

    def kill(self):
        """All its processes, as a power cut would (but what is written stays written)."""
        children = self._children()
        for pid in [self.process.pid, *children]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        self.process = None
        wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children), 30,
                   "PostgreSQL's processes are gone")

    def _children(self):
        children = []
        for stat in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(stat, encoding="utf-8", errors="replace") as file:
                    pid, rest = file.read().split(" ", 1)
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(rest.rsplit(")", 1)[1].split()[1]) == self.process.pid:
                children.append(int(pid))
        return children

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
            self.process = None
