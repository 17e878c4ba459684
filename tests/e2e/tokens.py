"""Issues tokens (JSON Web Tokens), and publishes the keys to check them with, by openssl."""

import base64
import json
import os
import subprocess
import time

from certificates import run


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encoded_json(value):
    return encoded(json.dumps(value).encode())


def unsecured(**claims):
    now = int(time.time())
    return (encoded_json({"alg": "none"}) + "."
            + encoded_json({"iat": now, "exp": now + 3600, **claims}) + ".")


class Issuer:
    """One key, of RSA or of the curve P-256."""

    def __init__(self, directory, key_id, kind="RSA"):
        self.key_id = key_id
        self.kind = kind
        self.key = os.path.join(directory, f"issuer-{key_id}.key")
        option = "rsa_keygen_bits:2048" if kind == "RSA" else "ec_paramgen_curve:P-256"
        run("openssl", "genpkey", "-algorithm", kind, "-pkeyopt", option, "-out", self.key)

    def public(self):
        """As a member of a JSON Web Key Set."""
        common = {"kty": self.kind, "kid": self.key_id, "use": "sig"}
        if self.kind == "RSA":
            modulus = run("openssl", "rsa", "-in", self.key, "-noout", "-modulus").split("=")[1]
            return {**common, "n": encoded(bytes.fromhex(modulus)), "e": "AQAB"}
        der = subprocess.run(["openssl", "pkey", "-in", self.key, "-pubout", "-outform", "DER"],
                             capture_output=True, check=True).stdout
        return {**common, "crv": "P-256", "x": encoded(der[-64:-32]), "y": encoded(der[-32:])}

    def token(self, header=None, **claims):
        """Good for an hour, unless the claims say otherwise; those that are None are left out."""
        now = int(time.time())
        claims = {"iat": now, "exp": now + 3600, **claims}
        header = {"alg": "RS256" if self.kind == "RSA" else "ES256", "kid": self.key_id,
                  **(header or {})}
        text = encoded_json(header) + "." + encoded_json(
            {name: value for name, value in claims.items() if value is not None})
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key],
                                   input=text.encode(), capture_output=True, check=True).stdout
        if self.kind != "RSA":
            signature = fixed_size(signature)
        return text + "." + encoded(signature)


def fixed_size(der):
    """The two numbers of an ECDSA signature, out of DER."""
    first = der[3]
    r, rest = der[4:4 + first], der[4 + first:]
    s = rest[2:2 + rest[1]]
    return b"".join(number.lstrip(b"\0").rjust(32, b"\0") for number in (r, s))


def publish(path, *issuers):
    """Writes the set of their keys in one step."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump({"keys": [issuer.public() for issuer in issuers]}, file)
    os.replace(path + ".new", path)
