#!/usr/bin/python3
"""`holdfast inject` as the API server of a cluster sees it: reviews over TLS, files that change
under it, and its end; and the hook's commands against an API server that the test plays."""

import base64
import contextlib
import http.client
import http.server
import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import threading

import harness
from certificates import Authority, expiry
from harness import Process, wait_for

REVIEWS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "inject", "reviews")

AGENT = "agent: {upstream: {bootstrap: [kafka:9092]}}\n"
CONFIG = """
log: {{level: debug}}
inject:
  listen: 127.0.0.1:0
  admin: 127.0.0.1:0
  kubernetes_version: "1.36"
  tls: {{certificate: {directory}/tls/tls.crt, key: {directory}/tls/tls.key}}
  sidecar:
    image: {image}
    agent_config_file: {directory}/config/agent.yaml
"""


def review(name="deployment"):
    with open(os.path.join(REVIEWS, name + ".json"), encoding="utf-8") as file:
        return json.load(file)


def swap(directory, name, files):
    """Exchanges the files of a volume as Kubernetes does: all at once, by a symbolic link."""
    volume = os.path.join(directory, name)
    os.makedirs(volume, exist_ok=True)
    version = tempfile.mkdtemp(dir=volume, prefix="..")
    for file, text in files.items():
        with open(os.path.join(version, file), "w", encoding="utf-8") as out:
            out.write(text)
        with contextlib.suppress(FileExistsError):
            os.symlink(os.path.join("..data", file), os.path.join(volume, file))
    link = os.path.join(volume, "..tmp")
    os.symlink(os.path.basename(version), link)
    os.rename(link, os.path.join(volume, "..data"))


class Webhook(Process):
    def start(self):
        with open(self.out_path, "wb") as out, open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(
                [harness.HOLDFAST, "inject", "--config", self.arguments[0]],
                stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        self.address, self.admin = wait_for(self._listeners, what=f"it to listen\n{self.log()}")
        return self


class InjectTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.authority = Authority(self.directory)
        self.issue("webhook")
        self.configure("example.com/holdfast:1")
        self.webhook = Webhook("inject", self.directory,
                               os.path.join(self.directory, "config", "inject.yaml"))
        self.processes.append(self.webhook)
        self.webhook.start()

    def issue(self, name, days=2):
        certificate, key, _ = self.authority.issue(name, days=days)
        files = {}
        for file, path in (("tls.crt", certificate), ("tls.key", key)):
            with open(path, encoding="utf-8") as text:
                files[file] = text.read()
        swap(self.directory, "tls", files)
        return certificate

    def configure(self, image, agent=AGENT):
        swap(self.directory, "config",
             {"inject.yaml": CONFIG.format(directory=self.directory, image=image),
              "agent.yaml": agent})

    def connect(self):
        host, port = self.webhook.address.rsplit(":", 1)
        connection = http.client.HTTPSConnection(
            host, int(port), timeout=20, context=ssl.create_default_context(
                cafile=self.authority.ca))
        self.addCleanup(connection.close)
        return connection

    def post(self, body, connection=None, path="/mutate", content_type="application/json"):
        connection = connection or self.connect()
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, body, {"Content-Type": content_type})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def image(self, connection=None):
        """Of the sidecar that a pod gets."""
        status, body = self.post(review(), connection)
        self.assertEqual(status, 200, body)
        patch = json.loads(base64.b64decode(json.loads(body)["response"]["patch"]))
        return next(one["value"][0]["image"] for one in patch
                    if one["path"] == "/spec/initContainers")

    def serial(self):
        """Of the certificate that a new connection is shown."""
        connection = self.connect()
        connection.connect()
        return connection.sock.getpeercert()["serialNumber"]

    def test_answers_reviews_over_one_connection(self):
        connection = self.connect()
        for name, allowed in (("deployment", True), ("host_network", False), ("job", True)):
            status, body = self.post(review(name), connection)
            self.assertEqual(status, 200)
            response = json.loads(body)["response"]
            self.assertEqual(response["allowed"], allowed, name)
            self.assertEqual(response["uid"], review(name)["request"]["uid"])
        self.assertEqual(self.webhook.get("/live"), "ok\n")
        self.assertEqual(self.webhook.get("/ready"), "ready\n")
        self.assertIn("inject: debug\n", self.webhook.get("/logging"))
        metrics = self.webhook.get("/metrics")
        for line in ('holdfast_inject_reviews_total{outcome="injected"} 2',
                     'holdfast_inject_reviews_total{outcome="refused"} 1',
                     "holdfast_inject_review_seconds_count 3"):
            self.assertIn(line, metrics)
        self.assertIn("HF8002 inject: shop/orders-7d9c5b8f64-*: refused: it has hostNetwork",
                      self.webhook.log())

    def test_what_is_no_review_gets_an_answer_and_harms_nobody(self):
        connection = self.connect()
        large = review()
        large["request"]["object"]["metadata"]["annotations"] = {"a": "x" * (3 << 20)}
        self.assertEqual(self.post(b"{", connection)[0], 400)
        self.assertEqual(self.post(b"[" * 100000, connection)[0], 400)
        self.assertEqual(self.post(review(), connection, content_type="text/plain")[0], 415)
        self.assertEqual(self.post(review(), connection, path="/mutated")[0], 404)
        connection.request("GET", "/mutate")
        with connection.getresponse() as answer:
            answer.read()
            self.assertEqual((answer.status, answer.headers["Allow"]), (405, "POST"))
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # It closes before all is written.
            self.assertEqual(self.post(large)[0], 413)
        host, port = self.webhook.address.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as plain:
            plain.sendall(b"POST /mutate HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                plain.recv(100)
        with socket.create_connection((host, int(port))) as silent:
            self.assertEqual(self.image(), "example.com/holdfast:1")
            silent.close()
        self.assertIn('outcome="malformed"} 3', self.webhook.get("/metrics"))

    def test_takes_a_body_of_megabytes(self):
        large = review()
        large["request"]["object"]["metadata"]["annotations"] = {"a": "x" * 2_900_000}
        status, body = self.post(large)
        self.assertEqual(status, 200)
        self.assertTrue(json.loads(body)["response"]["allowed"])

    def test_shows_a_certificate_that_was_exchanged(self):
        standing = self.connect()
        self.image(standing)
        before = self.serial()
        metric = "holdfast_inject_certificate_expiry_timestamp_seconds"
        certificate = self.issue("renewed", days=9)
        wait_for(lambda: self.serial() != before, what="the new certificate")
        self.image(standing)  # What stands, stays.
        self.assertEqual(self.webhook.metric(metric), expiry(certificate))
        swap(self.directory, "tls", {"tls.crt": "nonsense", "tls.key": "nonsense"})
        wait_for(lambda: "a changed certificate is not used" in self.webhook.log())
        self.image()

    def test_takes_a_changed_configuration_and_keeps_the_old_one_if_it_is_wrong(self):
        connection = self.connect()
        self.assertEqual(self.image(connection), "example.com/holdfast:1")
        self.configure("example.com/holdfast:2")
        wait_for(lambda: self.image(connection) == "example.com/holdfast:2")
        refused = "holdfast_inject_configuration_refused"
        self.assertEqual(self.webhook.metric(refused), 0)
        self.configure("example.com/holdfast:3", agent="agent: {upstrem: {}}\n")
        wait_for(lambda: self.webhook.metric(refused) == 1)
        self.assertIn("did you mean \"agent.upstream\"?", self.webhook.log())
        self.assertEqual(self.image(connection), "example.com/holdfast:2")
        self.configure("example.com/holdfast:4")
        self.webhook.child.send_signal(signal.SIGHUP)
        wait_for(lambda: self.image(connection) == "example.com/holdfast:4")
        wait_for(lambda: self.webhook.metric(refused) == 0)

    def test_sigterm_lets_clients_go_and_exits_with_0(self):
        connection = self.connect()
        self.image(connection)
        asking = self.connect()
        body = json.dumps(review()).encode()
        asking.putrequest("POST", "/mutate")
        asking.putheader("Content-Type", "application/json")
        asking.putheader("Content-Length", str(len(body)))
        asking.endheaders(body[:100])
        self.webhook.child.send_signal(signal.SIGTERM)
        wait_for(lambda: self.status("/ready") == 503, what="/ready to say that it drains")
        # What was begun is answered, and who asks now is answered, and told to go elsewhere.
        asking.send(body[100:])
        answer = asking.getresponse()
        self.assertEqual(answer.status, 200)
        self.assertTrue(json.loads(answer.read())["response"]["allowed"])
        connection.request("POST", "/mutate", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.headers["Connection"]), (200, "close"))
        self.assertEqual(self.webhook.child.wait(20), 0)

    def status(self, path):
        connection = http.client.HTTPConnection(self.webhook.admin, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status

    def test_says_what_is_missing(self):
        done = subprocess.run([harness.HOLDFAST, "inject"], capture_output=True, text=True,
                              timeout=20, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("inject.tls.certificate is not set", done.stderr)



class ApiServer:
    """As much of one as the hook asks: Secrets of one namespace, and webhook configurations."""

    TOKEN = "token-of-the-hook"

    def __init__(self, certificate, key):
        self.objects = {}
        self.version = 0
        self.conflicts = 0  # So many writes find that others were quicker.
        self.refusal = None
        self.requests = []
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self):
                size = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(size)) if size else None
                api.requests.append((self.command, self.path))
                if self.headers["Authorization"] != f"Bearer {api.TOKEN}":
                    status, answer = 401, {"kind": "Status", "message": "Unauthorized"}
                else:
                    status, answer = api.handle(self.command, self.path, body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_PATCH = answer

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def store(self, path, body):
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path] = body
        return body

    def handle(self, method, path, body):
        if self.refusal:
            return 403, {"kind": "Status", "message": self.refusal}
        if method != "GET" and self.conflicts > 0:
            self.conflicts -= 1
            return 409, {"kind": "Status", "message": "the object has been modified"}
        if method == "POST":
            return 201, self.store(f"{path}/{body['metadata']['name']}", body)
        found = self.objects.get(path)
        if found is None:
            return 404, {"kind": "Status", "message": f"{path} not found"}
        if method == "GET":
            return 200, found
        if method == "PUT":
            if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
                return 409, {"kind": "Status", "message": "the object has been modified"}
            return 200, self.store(path, body)
        for operation in body:
            at = found
            *parents, last = operation["path"].strip("/").split("/")
            for part in parents:
                at = at[int(part)] if isinstance(at, list) else at[part]
            if operation["op"] == "test":
                if at[last] != operation["value"]:
                    return 422, {"kind": "Status", "message": "the test failed"}
            else:
                at[last] = operation["value"]
        return 200, self.store(path, found)


class CertificatesTest(harness.Case):
    SECRET = "/api/v1/namespaces/system/secrets/certificate"
    WEBHOOKS = ("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/holdfast")

    def setUp(self):
        super().setUp()
        self.authority = Authority(self.directory)
        certificate, key, _ = self.authority.issue("api")
        self.api = ApiServer(certificate, key)
        self.addCleanup(self.api.close)
        with open(self.path("token"), "w", encoding="utf-8") as file:
            file.write(ApiServer.TOKEN + "\n")
        self.api.store(self.WEBHOOKS, {
            "metadata": {"name": "holdfast"},
            "webhooks": [{"name": name, "clientConfig": {"service": {"name": "injector"}}}
                         for name in ("namespaces", "pods")]})

    def run_hook(self, verb, *arguments, code=0):
        done = subprocess.run(
            [harness.HOLDFAST, "inject", "certificates", verb, "--namespace", "system",
             "--secret=certificate", "--server", self.api.url, "--token-file", self.path("token"),
             "--ca-file", self.authority.ca, *arguments],
            capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def create(self, *arguments, **more):
        return self.run_hook("create", "--service=injector", *arguments, **more)

    def install(self, **more):
        return self.run_hook("install", "--webhook-configuration=holdfast", **more)

    def data(self):
        data = self.api.objects[self.SECRET]["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def bundles(self):
        return {base64.b64decode(webhook["clientConfig"]["caBundle"]).decode()
                for webhook in self.api.objects[self.WEBHOOKS]["webhooks"]}

    def assert_served(self, data, ca, name="injector.system.svc"):
        """A client that trusts `ca` takes the Secret's certificate."""
        for file in ("tls.crt", "tls.key"):
            with open(self.path(file), "w", encoding="utf-8") as out:
                out.write(data[file])
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(self.path("tls.crt"), self.path("tls.key"))
        client = ssl.create_default_context(cadata=ca)
        left, right = (ssl.MemoryBIO() for _ in range(2))
        ends = [client.wrap_bio(left, right, server_hostname=name),
                server.wrap_bio(right, left, server_side=True)]
        for _ in range(5):
            for end in ends:
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        self.assertTrue(ends[0].getpeercert())

    def test_makes_a_certificate_and_tells_the_api_server_of_its_ca(self):
        self.assertIn("Secret system/certificate has a new certificate until", self.create())
        secret = self.api.objects[self.SECRET]
        self.assertEqual(secret["type"], "kubernetes.io/tls")
        self.assertEqual(sorted(secret["data"]), ["ca.crt", "tls.crt", "tls.key"])
        self.assertIn("has the CA in 2 webhooks", self.install())
        self.assertEqual(self.bundles(), {self.data()["ca.crt"]})
        self.assert_served(self.data(), self.bundles().pop())
        # Again there is nothing to do.
        before = len(self.api.requests)
        self.assertIn("is left alone: its certificate holds until", self.create())
        self.assertIn("has the CA already", self.install())
        self.assertEqual({method for method, _ in self.api.requests[before:]}, {"GET"})

    def test_a_renewal_is_trusted_at_each_step(self):
        self.create("--duration=10d", "--renew-before=5d")
        self.install()
        first = self.data()
        self.assertIn("for `install` to put in place",
                      self.create("--duration=90d", "--renew-before=30d"))
        staged = self.data()
        self.assertEqual(staged["tls.crt"], first["tls.crt"])
        self.assert_served(staged, self.bundles().pop())
        self.assertIn("is left alone", self.create("--duration=90d", "--renew-before=30d"))
        self.assertEqual(self.data(), staged)
        self.assertIn("has its next certificate in use", self.install())
        renewed = self.data()
        self.assertEqual(sorted(renewed), ["ca.crt", "tls.crt", "tls.key"])
        self.assertNotEqual(renewed["tls.crt"], first["tls.crt"])
        # Webhooks that have not read the new one yet are trusted, too.
        for data in (first, renewed):
            self.assert_served(data, self.bundles().pop())

    def test_further_names_need_a_new_certificate(self):
        self.create()
        first = self.data()
        self.assertIn("the certificate is not for injector.example.com",
                      self.create("--dns=injector.example.com"))
        self.assertNotEqual(self.data()["tls.crt"], first["tls.crt"])
        self.install()
        self.assert_served(self.data(), self.bundles().pop(), "injector.example.com")
        self.assert_served(first, self.bundles().pop())

    def test_conflicts_are_tried_again(self):
        self.api.conflicts = 3
        self.create()
        self.api.conflicts = 3
        self.install()
        self.assertEqual(self.bundles(), {self.data()["ca.crt"]})
        self.api.conflicts = 1000
        self.assertIn("was changed by others each time",
                      self.create("--duration=9000d", "--renew-before=8999d", code=1))

    def test_says_what_the_api_server_says(self):
        self.assertIn("certificates create` makes it", self.install(code=1))
        self.api.refusal = "secrets \"certificate\" is forbidden: User \"x\" cannot get"
        self.assertIn(f"cannot read Secret system/certificate: the API server says 403: "
                      f"{self.api.refusal}", self.create(code=1))
        self.api.refusal = None
        self.api.store(self.SECRET, {"metadata": {"name": "certificate"}, "type": "Opaque"})
        self.assertIn("is of type Opaque", self.create(code=2))
        with open(self.path("token"), "w", encoding="utf-8") as file:
            file.write("another")
        self.assertIn("says 401: Unauthorized", self.create(code=1))
        self.api.close()
        self.assertIn(self.api.url, self.create(code=1))

    def test_wrong_usage_is_told(self):
        self.assertIn("--duration is \"soon\"", self.create("--duration=soon", code=2))
        self.assertIn("must be less than", self.create("--renew-before=9000h", code=2))
        self.assertIn("is no DNS name", self.create("--dns=*.example.com", code=2))
        self.assertIn("give the webhook's --service", self.run_hook("create", code=2))


if __name__ == "__main__":
    harness.main()
