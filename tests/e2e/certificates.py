"""A CA of the test's own, and certificates that it signs, with the openssl command."""

import os
import ssl
import subprocess


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}:\n{done.stderr}")
    return done.stdout


def expiry(certificate):
    """When it ends, in seconds since 1970."""
    end = run("openssl", "x509", "-noout", "-enddate", "-in", certificate)
    return ssl.cert_time_to_seconds(end.strip().removeprefix("notAfter="))


class Authority:
    """Its certificate is `ca`; Issue gives (certificate, key, both in one file)."""

    def __init__(self, directory, name="ca"):
        self.directory = directory
        self.name = name
        self.ca = self._path(name + ".pem")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", self._path(name + ".key"),
            "-out", self.ca)

    def _path(self, name):
        return os.path.join(self.directory, name)

    def issue(self, name, hosts="DNS:localhost,IP:127.0.0.1", days=2, subject=None):
        request, certificate, key, both = (
            self._path(f"{self.name}-{name}{end}")
            for end in (".csr", ".pem", ".key", "-both.pem"))
        extensions = self._path("extensions.cnf")
        with open(extensions, "w", encoding="utf-8") as file:
            file.write(f"subjectAltName={hosts}\n")
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", subject or f"/CN={name}", "-keyout", key, "-out", request)
        run("openssl", "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey",
            self._path(self.name + ".key"), "-CAcreateserial", "-days", str(days), "-extfile",
            extensions, "-out", certificate)
        with open(both, "w", encoding="utf-8") as file:
            for part in (key, certificate):
                with open(part, encoding="utf-8") as text:
                    file.write(text.read())
        return certificate, key, both
