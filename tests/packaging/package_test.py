#!/usr/bin/python3
"""The Debian packages: what is in them, what Debian's and systemd's own checks say of them, and how
they are installed, upgraded, removed and purged on a copy of this machine.

usage: package_test.py BUILD_FOLDER [CASE...]
"""

import contextlib
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest

NOT_RUN = 77  # What ctest shows as skipped; the log says what was not run, and why.
BUILD = None
EXPOSURE_MAX = "20"  # In tenths, as systemd-analyze takes it.
PACKAGES = ("holdfast", "holdfast-broker")
SCRIPT_UNIT = """
[Unit]
After=basic.target
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
TimeoutStartSec=240
StandardOutput=file:/given/out
StandardError=file:/given/out
ExecStart=/bin/sh -ex /given/script
"""
SCRIPT_TARGET = """
[Unit]
Requires=basic.target
Wants=given.service
After=basic.target
"""


def run(*command, check=True, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}")
    return done.stdout


@contextlib.contextmanager
def control_groups():
    """Groups for a systemd to be below, one in each hierarchy; gone in the end."""
    made = []
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.strip().split(":", 2)
            below = ["unified", ""] if not controllers else [controllers.removeprefix("name=")]
            for name in below:
                group = os.path.join("/sys/fs/cgroup", name, path.strip("/"),
                                     f"holdfast-test-{os.getpid()}")
                if os.path.exists(os.path.join(os.path.dirname(group), "cgroup.procs")):
                    os.mkdir(group)
                    made.append(group)
    yield made
    for group in made:
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


class PackageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="holdfast-package-")
        cls.root = os.path.join(cls.directory, "root")
        run("cpack", "--config", os.path.join(BUILD, "CPackConfig.cmake"), "-B", cls.directory)
        cls.debs = {}
        for package in PACKAGES:
            (cls.debs[package],) = glob.glob(os.path.join(cls.directory, f"{package}_*.deb"))
            run("dpkg-deb", "--extract", cls.debs[package], cls.root)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.directory, ignore_errors=True)

    def installed(self, path):
        return os.path.join(self.root, path)

    def test_each_has_what_it_says(self):
        contents = {package: run("dpkg-deb", "--contents", deb)
                    for package, deb in self.debs.items()}
        files = {package: set(re.findall(r"^-(\S{9}) root/root .* \./(\S+)$", listing, re.M))
                 for package, listing in contents.items()}
        self.assertEqual(files["holdfast"], {
            ("rwxr-xr-x", "usr/bin/holdfast"),
            ("rw-r-----", "etc/holdfast/agent.yaml"),
            ("rw-r--r--", "lib/systemd/system/holdfast.service"),
            ("rw-r--r--", "usr/lib/sysusers.d/holdfast.conf"),
            ("rw-r--r--", "usr/share/bash-completion/completions/holdfast"),
            ("rw-r--r--", "usr/share/man/man1/holdfast.1.gz"),
            ("rw-r--r--", "usr/share/man/man5/holdfast.yaml.5.gz"),
            ("rw-r--r--", "usr/share/doc/holdfast/copyright"),
            ("rw-r--r--", "usr/share/lintian/overrides/holdfast"),
            ("rw-r--r--", "usr/share/doc/holdfast/changelog.Debian.gz")})
        self.assertEqual(files["holdfast-broker"], {
            ("rw-r-----", "etc/holdfast/broker.yaml"),
            ("rw-r--r--", "lib/systemd/system/holdfast-broker.service"),
            ("rw-r--r--", "usr/share/doc/holdfast-broker/copyright"),
            ("rw-r--r--", "usr/share/lintian/overrides/holdfast-broker"),
            ("rw-r--r--", "usr/share/doc/holdfast-broker/changelog.Debian.gz")})
        fields = run("dpkg-deb", "--field", self.debs["holdfast"])
        for library in ("libc6 (>= ", "libssl3", "libsqlite3-0", "systemd | "):
            self.assertIn(library, fields)
        self.assertNotIn("lmdb", fields)  # It is in the binary.
        version = run("dpkg-deb", "--field", self.debs["holdfast"], "Version").strip()
        self.assertIn(f"holdfast (= {version})",
                      run("dpkg-deb", "--field", self.debs["holdfast-broker"], "Depends"))
        changelog = run("zcat", self.installed("usr/share/doc/holdfast/changelog.Debian.gz"))
        self.assertTrue(changelog.startswith(f"holdfast ({version}) "), changelog)

    def test_lintian_finds_nothing(self):
        said = run("lintian", "--allow-root", "--fail-on", "error,warning", *self.debs.values())
        self.assertEqual([line for line in said.splitlines() if not line.startswith("N:")], [])

    def test_units_are_right_and_leave_little_exposed(self):
        for package in PACKAGES:
            unit = self.installed(f"lib/systemd/system/{package}.service")
            run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}",
                "--no-pager", unit)
            said = run("systemd-analyze", "verify", "--man=no", unit, check=False)
            # The program is not installed on this machine.
            self.assertEqual([line for line in said.splitlines() if
                              "/usr/bin/holdfast is not executable" not in line], [], said)

    def test_the_manual_pages_have_no_mistakes(self):
        for page in ("man1/holdfast.1", "man5/holdfast.yaml.5"):
            text = run("zcat", self.installed(f"usr/share/man/{page}.gz"))
            path = os.path.join(self.directory, os.path.basename(page))
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            self.assertEqual(run("mandoc", "-T", "lint", "-W", "warning", path, check=False), "")
        page = run("mandoc", "-T", "utf8", "-O", "width=200",
                   os.path.join(self.directory, "holdfast.1"))
        page = re.sub(".\b", "", page)
        help_text = run(self.installed("usr/bin/holdfast"), "agent", "--help")
        for option in re.findall(r"^  (--\w+)", help_text, re.M):
            self.assertIn(option, page)
        for words in ("holdfast spool cat [OPTIONS] DIR STREAM", "\\xNN for a byte"):
            self.assertIn(words, page)

    def complete(self, line):
        """What bash offers at the end of the line."""
        words = line.split(" ")
        quoted = " ".join(f"'{word}'" for word in words)
        script = (f"source {self.installed('usr/share/bash-completion/completions/holdfast')}\n"
                  f"COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}\n"
                  "_holdfast; printf '%s\\n' \"${COMPREPLY[@]}\"")
        return run("bash", "--norc", "-euc", script).split()

    def test_bash_completes_commands_verbs_and_options(self):
        self.assertEqual(self.complete("holdfast ag"), ["agent"])
        self.assertIn("broker", self.complete("holdfast "))
        self.assertNotIn("manual", self.complete("holdfast "))
        self.assertEqual(self.complete("holdfast agent --up"), ["--upstream"])
        self.assertEqual(self.complete("holdfast spool st"), ["status"])
        self.assertEqual(self.complete("holdfast spool cat --cou"), ["--count"])
        self.assertEqual(self.complete("holdfast spool cat spool --cou"), ["--count"])
        self.assertEqual(self.complete("holdfast agent --config spool"), [])  # A file's name.

    def on_a_copy(self, script, boot=False):
        """Runs it as root in a copy of this machine's files that is thrown away, alone or, with
        `boot`, under a systemd of its own; and without a network."""
        if os.geteuid() != 0:
            self.skipTest("not run: only root can install packages, if only on a copy")
        given = os.path.join(self.directory, "given")
        os.makedirs(given, exist_ok=True)
        for deb in self.debs.values():
            shutil.copy(deb, given)
        with open(os.path.join(given, "script"), "w", encoding="utf-8") as file:
            file.write(textwrap.dedent(script))
        prepare = """
            set -e
            mount -t tmpfs none "$1"
            mkdir "$1/upper" "$1/work" "$1/copy"
            mount -t overlay none -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/copy"
            cd "$1/copy"
            mkdir -p given old
            mount --bind "$2" given
            mount -t proc none proc
            mount --rbind /dev dev
            mount -t sysfs none sys
            rm -f usr/sbin/policy-rc.d
            if test "$3" = boot; then
              mount -t tmpfs none run
              mount -t tmpfs none tmp
              rm -f etc/systemd/system/*.wants/* lib/systemd/system/*.wants/*
              cp given/given.service given/given.target etc/systemd/system
            fi
            pivot_root . old
            umount -l old
            if test "$3" = boot; then
              exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
                --system --unit=given.target --show-status=no
            fi
            exec /bin/sh -ex given/script
        """
        for name, text in (("given.service", SCRIPT_UNIT), ("given.target", SCRIPT_TARGET)):
            with open(os.path.join(given, name), "w", encoding="utf-8") as file:
                file.write(text)
        at = os.path.join(self.directory, "copy")
        os.makedirs(at, exist_ok=True)
        # Some hierarchies take no process before they are told of processors.
        enter = """
            for group in $GROUPS_TO_ENTER; do
              echo $$ >"$group/cgroup.procs" || true
            done 2>/dev/null
            exec unshare --mount --pid --fork --uts --ipc --net --cgroup /bin/sh -c "$@"
        """
        with control_groups() as groups:
            said = run("/bin/sh", "-c", enter, "enter", prepare, "prepare", at, given,
                       "boot" if boot else "", check=not boot,
                       env=dict(os.environ, DEBIAN_FRONTEND="noninteractive",
                                GROUPS_TO_ENTER=" ".join(groups)))
        if not boot:
            return said
        if not os.path.exists(os.path.join(given, "out")):
            self.skipTest(f"not run: systemd does not start here: {said}")
        with open(os.path.join(given, "out"), encoding="utf-8") as file:
            return file.read()

    def test_they_are_installed_upgraded_removed_and_purged(self):
        said = self.on_a_copy("""
            is() { test "$(stat -c '%a %U:%G' "$1")" = "$2"; }
            not() { ! "$@"; }  # With -e, `!` alone would fail nothing.
            enabled() { test -e "/etc/systemd/system/multi-user.target.wants/$1.service"; }
            dpkg --install /given/*.deb
            is /etc/holdfast/agent.yaml '640 root:holdfast'
            is /etc/holdfast/broker.yaml '640 root:holdfast'
            runuser -u holdfast -- holdfast validate /etc/holdfast/broker.yaml
            enabled holdfast-broker
            not enabled holdfast  # Before it has brokers to deliver to.
            not holdfast validate /etc/holdfast/agent.yaml
            sed -i 's/bootstrap: .*/bootstrap: [kafka-1:9092]/' /etc/holdfast/agent.yaml
            runuser -u holdfast -- holdfast validate /etc/holdfast/agent.yaml
            systemctl enable holdfast
            mkdir -p /var/lib/holdfast/spool /var/lib/holdfast-broker/data

            dpkg --install /given/*.deb
            grep kafka-1 /etc/holdfast/agent.yaml
            is /etc/holdfast/agent.yaml '640 root:holdfast'
            enabled holdfast
            enabled holdfast-broker

            dpkg --remove holdfast-broker holdfast
            test -e /var/lib/holdfast/spool -a -e /var/lib/holdfast-broker/data
            test -e /etc/holdfast/agent.yaml

            mount -t tmpfs none /var/lib/holdfast-broker  # As edge hosts have a disk for it.
            mkdir /var/lib/holdfast-broker/data
            dpkg --purge holdfast-broker holdfast
            test ! -e /var/lib/holdfast -a ! -e /etc/holdfast
            test -z "$(ls -A /var/lib/holdfast-broker)"
            not enabled holdfast
            not enabled holdfast-broker
            echo all is well
        """)
        self.assertTrue(said.endswith("all is well\n"), said)

    def test_systemd_starts_reloads_watches_and_stops_them(self):
        said = self.on_a_copy("""
            not() { ! "$@"; }
            show() { systemctl show --value --property "$1" holdfast; }
            until_is() {
              for i in $(seq 100); do test "$(show "$1")" = "$2" && return; sleep 0.2; done
              systemctl status --no-pager holdfast
              return 1
            }
            dpkg --install /given/*.deb
            systemctl is-active holdfast-broker
            not systemctl is-active holdfast
            sed -i 's/bootstrap: .*/bootstrap: [127.0.0.1:9192]/' /etc/holdfast/agent.yaml
            systemctl enable --now holdfast
            echo hello | kcat -P -b 127.0.0.1:9092 -t greetings
            for i in $(seq 50); do
              kcat -C -b 127.0.0.1:9192 -t greetings -e -q -o beginning | grep hello && break
              sleep 0.2
            done
            until_is StatusText 'agent: 0 records wait for the tier, which answers'

            systemctl reload holdfast
            sed -i 's/listen:/lisen:/' /etc/holdfast/agent.yaml
            not systemctl reload holdfast
            systemctl is-active holdfast
            sed -i 's/lisen:/listen:/' /etc/holdfast/agent.yaml

            mkdir -p /run/systemd/system/holdfast.service.d
            printf '[Service]\nWatchdogSec=1s\n' >/run/systemd/system/holdfast.service.d/w.conf
            systemctl daemon-reload
            systemctl restart holdfast
            sleep 3
            test "$(show NRestarts)" = 0
            kill -STOP "$(show MainPID)"
            until_is NRestarts 1
            until_is ActiveState active
            rm -r /run/systemd/system/holdfast.service.d

            # A version that does not start, and then one that does, with nobody on the host.
            sed -i 's/listen:/lisen:/' /etc/holdfast/agent.yaml
            not systemctl restart holdfast
            until_is ActiveState failed
            sed -i 's/lisen:/listen:/' /etc/holdfast/agent.yaml
            dpkg --install /given/*.deb
            systemctl is-active holdfast

            test "$(stat -c '%a %U' /var/lib/holdfast)" = '700 holdfast'
            dpkg --purge holdfast-broker holdfast
            not systemctl is-active holdfast
            echo all is well
        """, boot=True)
        self.assertTrue(said.endswith("all is well\n"), said)


if __name__ == "__main__":
    BUILD = sys.argv.pop(1)
    done = unittest.main(verbosity=2, exit=False).result
    sys.exit(1 if not done.wasSuccessful() else NOT_RUN if done.skipped else 0)
