#!/usr/bin/env python3
"""The charts, rendered by the real Helm: golden files, schemas, and what must always hold.

usage: TOOLS/venv/bin/python tests/helm/chart_test.py TOOLS HOLDFAST [unittest's arguments]

TOOLS is what tests/helm/tools made, HOLDFAST the binary. HOLDFAST_PRINT=1 writes golden files and
the tables of docs/kubernetes.md anew. HOLDFAST_HELM=PATH takes another Helm, such as version 3.

A case is a file cases/CHART/NAME.yaml with values, and at its head perhaps
`# kubernetes: VERSION` and `# values: FILE` (one of the chart's own, before the case's).
"""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CHARTS = ("holdfast", "holdfast-broker")
NAMESPACE = {"holdfast": "holdfast-system", "holdfast-broker": "kafka"}
PRINT = os.environ.get("HOLDFAST_PRINT") == "1"
# Kinds of other projects, of which there are no schemas here.
FOREIGN = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "Certificate", "Issuer"}

TOOLS = HOLDFAST = HELM = None


def chart_path(chart):
    return os.path.join(ROOT, "helm", chart)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def helm(*args):
    return subprocess.run([HELM, *args], capture_output=True, text=True,
                          env={**os.environ, "HELM_CACHE_HOME": os.path.join(TOOLS, "cache")})


def template(chart, *args, kubernetes="1.36"):
    return helm("template", chart, chart_path(chart), "--namespace", NAMESPACE[chart],
                "--kube-version", kubernetes, *args)


def mount(folder, *secrets):
    """Files as a pod has them below /etc/holdfast."""
    for name in ("users", "tls"):
        os.mkdir(os.path.join(folder, name))
    for path, text in [("agent.yaml", "agent: {}\n"), *((path, "secret") for path in secrets)]:
        with open(os.path.join(folder, path), "w", encoding="ascii") as file:
            file.write(text)
    certificate, key, ca = (os.path.join(folder, "tls", name)
                            for name in ("tls.crt", "tls.key", "ca.crt"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=holdfast",
                    "-keyout", key, "-out", certificate], check=True, capture_output=True)
    shutil.copy(certificate, ca)


class Case:
    def __init__(self, path):
        self.path = path
        self.chart = os.path.basename(os.path.dirname(path))
        self.name = os.path.splitext(os.path.basename(path))[0]
        head = dict(re.findall(r"^# (kubernetes|values): (\S+)$", read(path), re.M))
        self.kubernetes = head.get("kubernetes", "1.36")
        self.values = head.get("values")
        self.golden = os.path.join(HERE, "golden", self.chart, self.name + ".yaml")
        self._text = None

    def __str__(self):
        return f"{self.chart}/{self.name}"

    @property
    def text(self):
        if self._text is None:
            own = ["-f", os.path.join(chart_path(self.chart), self.values)] if self.values else []
            done = template(self.chart, *own, "-f", self.path, kubernetes=self.kubernetes)
            if done.returncode != 0:
                raise AssertionError(f"{self}: helm template failed: {done.stderr}")
            self._text = done.stdout
        return self._text

    @property
    def objects(self):
        return [one for one in yaml.safe_load_all(self.text) if one]


CASES = [Case(path) for path in sorted(glob.glob(os.path.join(HERE, "cases", "*", "*.yaml")))]


def minimal(chart):
    return next(case for case in CASES if str(case) == f"{chart}/default").path


def pod_of(one):
    """The pod's template in an object, and its spec."""
    if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
        return one["spec"]["template"]
    if one["kind"] == "CronJob":
        return one["spec"]["jobTemplate"]["spec"]["template"]
    return None


def pods():
    for case in CASES:
        for one in case.objects:
            pod = pod_of(one)
            if pod:
                yield f"{case} {one['kind']}/{one['metadata']['name']}", case, one, pod


def texts_of(value, path=()):
    """What must be text, whatever it looks like, with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            inside = path[-1:] in (("labels",), ("matchLabels",), ("annotations",))
            if inside or key in ("name", "namespace", "key", "path", "secretName",
                                 "priorityClassName", "storageClassName"):
                if not isinstance(inner, dict):
                    yield ".".join((*path, key)), inner
            yield from texts_of(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from texts_of(inner, (*path, str(number)))


def golden_text(text):
    """Without dashboards, which would be most of it and are compared with their files elsewhere.
    Blank lines between objects, and the order of those that Helm does not know, are not the same in
    Helm 3 and 4."""
    text = re.sub(r"^(  holdfast-\w+\.json: \|-\n)(?:    .*\n|\n(?=    ))+",
                  r"\1    (the file)\n", text, flags=re.M)
    parts = [part.strip("\n") for part in re.split(r"^---\n", text, flags=re.M) if part.strip()]
    parts.sort(key=lambda part: re.findall(r'^(?:kind|  name): "?([^\s"]+)"?$', part, re.M)[:2])
    return "".join(f"---\n{part}\n" for part in parts)


class RenderingTest(unittest.TestCase):
    maxDiff = None

    def test_golden_files(self):
        for case in CASES:
            with self.subTest(case=str(case)):
                text = golden_text(case.text)
                if PRINT:
                    os.makedirs(os.path.dirname(case.golden), exist_ok=True)
                    with open(case.golden, "w", encoding="utf-8") as file:
                        file.write(text)
                self.assertTrue(os.path.exists(case.golden),
                                "no golden file; HOLDFAST_PRINT=1 writes it")
                self.assertMultiLineEqual(read(case.golden), text)

    def test_each_golden_file_has_a_case(self):
        known = {case.golden for case in CASES}
        for path in glob.glob(os.path.join(HERE, "golden", "*", "*.yaml")):
            self.assertIn(path, known)

    def test_lint(self):
        for chart in CHARTS:
            done = helm("lint", "--strict", "--kube-version", "1.36", chart_path(chart),
                        "-f", minimal(chart))
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_objects_fit_the_schemas_of_kubernetes(self):
        for case in CASES:
            with self.subTest(case=str(case)):
                known = [one for one in case.objects if one["kind"] not in FOREIGN]
                done = validate(known, case.kubernetes)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertNotIn("Couldn't find schema", done.stdout + done.stderr)

    def test_a_misspelt_field_is_found(self):
        objects = next(case for case in CASES if str(case) == "holdfast/default").objects
        next(one for one in objects if one["kind"] == "Deployment")["spec"]["replica"] = 1
        done = validate([one for one in objects if one["kind"] not in FOREIGN], "1.36")
        self.assertNotEqual(done.returncode, 0)

    def test_names_are_unique_and_in_the_release(self):
        for case in CASES:
            seen = set()
            for one in case.objects:
                meta = one["metadata"]
                key = (one["apiVersion"], one["kind"], meta.get("namespace"), meta["name"])
                self.assertNotIn(key, seen, str(case))
                seen.add(key)
                namespace = NAMESPACE[case.chart]
                self.assertEqual(meta.get("namespace", namespace), namespace, f"{case}: {key}")
                self.assertEqual(meta["labels"]["app.kubernetes.io/managed-by"], "Helm")

    def test_names_fit_however_long_the_release_s_is(self):
        for chart in CHARTS:
            done = helm("template", "r" * 53, chart_path(chart), "-n", "n" * 63, "--kube-version",
                        "1.36", "-f", minimal(chart), "--set", "nameOverride=" + "c" * 63)
            for one in yaml.safe_load_all(done.stdout):
                if one:
                    most = {"CronJob": 52, "StatefulSet": 52}.get(one["kind"], 63)
                    most = most if "namespace" in one["metadata"] else 253
                    self.assertLessEqual(len(one["metadata"]["name"]), most, one["kind"])
                    for value in one["metadata"]["labels"].values():
                        self.assertLessEqual(len(value), 63)

    def test_names_that_look_like_numbers_stay_text(self):
        users = ["1234", "null", "1e3", "on", "agents"]
        for chart, sets in (
                ("holdfast-broker", {"sasl": {"mechanisms": ["PLAIN"], "usersSecretName": "12",
                                              "users": users},
                                     "tls": {"secretName": "1e3"}, "priorityClassName": "7",
                                     "persistence": {"storageClassName": "0"},
                                     "podDisruptionBudget": {"enabled": True},
                                     "networkPolicy": {"enabled": True}}),
                ("holdfast", {"nodeAgents": {"enabled": True, "secretName": "1e3",
                                             "priorityClassName": "7"},
                              "injector": {"priorityClassName": "7"},
                              "networkPolicy": {"enabled": True}}),
                ("holdfast", {"certificates": {"source": "secret", "secret": {
                    "name": "12", "caBundle": "-----BEGIN CERTIFICATE-----"}}})):
            with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
                json.dump(sets, file)
                file.flush()
                done = helm("template", "1234", chart_path(chart), "-n", "1e3", "--kube-version",
                            "1.36", "-f", minimal(chart), "-f", file.name)
            self.assertEqual(done.returncode, 0, done.stderr)
            objects = [one for one in yaml.safe_load_all(done.stdout) if one]
            for one in objects:
                for path, value in texts_of(one):
                    self.assertIsInstance(value, str, f"{one['kind']} {path}")
            # YAML as Kubernetes reads it takes 1e3 for a number, and Python does not.
            self.assertNotRegex(done.stdout, r"(?m)[:,{\[] *(1e3|1234|on|null)\s*([,}\]]|$)")

    def test_two_releases_share_no_cluster_wide_name(self):
        names = []
        for namespace in ("one", "two"):
            done = helm("template", "holdfast", chart_path("holdfast"), "-n", namespace,
                        "--kube-version", "1.36", "-f", minimal("holdfast"))
            names.append({(one["kind"], one["metadata"]["name"])
                          for one in yaml.safe_load_all(done.stdout)
                          if one and "namespace" not in one["metadata"]})
        self.assertTrue(names[0])
        self.assertFalse(names[0] & names[1])

    def test_selectors_fit_the_pods(self):
        for name, case, one, pod in pods():
            if one["kind"] in ("Job", "CronJob"):
                continue
            labels = pod["metadata"]["labels"]
            wanted = one["spec"]["selector"]["matchLabels"]
            self.assertEqual(wanted, {key: labels.get(key) for key in wanted}, name)
        for case in CASES:
            templates = [pod_of(one)["metadata"]["labels"] for one in case.objects if pod_of(one)]
            for one in case.objects:
                spec = one.get("spec", {})
                selector = {"Service": lambda: spec["selector"],
                            "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
                            "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
                            }.get(one["kind"], dict)()
                if not selector:
                    continue
                fitting = [labels for labels in templates if selector.items() <= labels.items()]
                self.assertEqual(len(fitting), 1, f"{case} {one['kind']}/{one['metadata']['name']}")

    def test_notes_say_what_is_lost(self):
        if helm("version", "--short").stdout.startswith("v3"):
            self.skipTest("Helm 3 asks a cluster even for a dry run")
        for sets, said in (
                ([], "class `pod`, 2Gi"), ([], "NOT the end of the pod"),
                ([], "lost if the claim is deleted"), ([], "NOT the loss of the node's disk"),
                ([], "needs nodeAgents.enabled=true"),
                (["sidecar.durability=volume"], "class `volume`"),
                (["nodeAgents.enabled=true", "sidecar.durability=node"], "60s after the pod")):
            done = helm("install", "holdfast", chart_path("holdfast"), "-n", "holdfast-system",
                        "--dry-run=client", "-f", minimal("holdfast"),
                        *[part for one in sets for part in ("--set", one)])
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(said, " ".join(done.stdout.split()))
        done = helm("install", "holdfast-broker", chart_path("holdfast-broker"), "-n", "kafka",
                    "--dry-run=client")
        self.assertIn("There is no second copy", done.stdout)

    def test_notes_warn_of_every_open_listener(self):
        if helm("version", "--short").stdout.startswith("v3"):
            self.skipTest("Helm 3 asks a cluster even for a dry run")
        tls = '{"certificate":"/a","client_auth":"required"}'
        outside = '{"name":"outside","listen":"0.0.0.0:9095","tls":' + tls + "}"
        services = '{"name":"services","listen":"0.0.0.0:9096"}'
        local = '{"name":"local","listen":"127.0.0.1:9097"}'
        for sets, said in (
                ([], "by port 9092."),
                ([f"config.listeners=[{outside},{local}]"], "by port 9092."),
                ([f"config.listeners=[{services}]"], "by port 9092 and 9096."),
                ([f"config.listeners=[{services}]", 'sasl.mechanisms=["PLAIN"]'], "by port 9096."),
                ([f"config.listeners=[{outside}]", 'sasl.mechanisms=["PLAIN"]'], None),
                (["networkPolicy.enabled=true"], None)):
            with self.subTest(sets=sets):
                done = helm("install", "holdfast-broker", chart_path("holdfast-broker"), "-n",
                            "kafka", "--dry-run=client",
                            *[part for one in sets for part in ("--set-json", one)])
                self.assertEqual(done.returncode, 0, done.stderr)
                if said:
                    self.assertIn("everything, " + said, done.stdout)
                else:
                    self.assertNotIn("WARNING", done.stdout)


def validate(objects, kubernetes):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump_all(objects, file)
        file.flush()
        return subprocess.run([os.path.join(TOOLS, "venv", "bin", "kubernetes-validate"), "-k",
                               kubernetes, "--strict", file.name], capture_output=True, text=True)


class ValuesTest(unittest.TestCase):
    """What is wrong is refused when it is rendered, with words that help."""

    def refused(self, chart, sets, said, kubernetes="1.36"):
        args = []
        for one in sets:
            args += ["--set-json" if one.endswith(("]", "}", "null")) else "--set", one]
        done = template(chart, "-f", minimal(chart), *args, kubernetes=kubernetes)
        self.assertNotEqual(done.returncode, 0, f"{chart} takes {sets}")
        self.assertIn(said, done.stderr, f"{chart} {sets}")

    def test_every_key_that_is_not_known_is_refused(self):
        for chart in CHARTS:
            values = yaml.safe_load(read(os.path.join(chart_path(chart), "values.yaml")))
            for path in strict_paths(values):
                with self.subTest(chart=chart, path=path):
                    self.refused(chart, [".".join((*path, "typo")) + "=1"],
                                 "additional properties 'typo' not allowed")

    def test_wrong_values_are_refused(self):
        for chart, sets, said in (
                ("holdfast", ["mode=webhok"], "mode"),
                ("holdfast", ["sidecar.durability=disk"], "durability"),
                ("holdfast", ["sidecar.spoolSize=2GiB"], "spoolSize"),
                ("holdfast", ["sidecar.spoolSize=0"], "spoolSize"),
                ("holdfast", ["sidecar.kafkaPort=0"], "kafkaPort"),
                ("holdfast", ["sidecar.adminPort=65536"], "adminPort"),
                ("holdfast", ['sidecar.bootstrapEnv=["KAFKA BROKERS"]'], "bootstrapEnv"),
                ("holdfast", ["sidecar.resources.limits.memory=1GB"], "memory"),
                ("holdfast", ["sidecar.resources.limits.cpus=1"], "cpus"),
                ("holdfast", ["sidecar.drainReserve=3 seconds"], "drainReserve"),
                ("holdfast", ["injector.replicas=0"], "replicas"),
                ("holdfast", ["injector.replicas=two"], "replicas"),
                ("holdfast", ["injector.timeoutSeconds=31"], "timeoutSeconds"),
                ("holdfast", ["injector.logLevel=trace"], "logLevel"),
                ("holdfast", ["image.digest=latest"], "digest"),
                ("holdfast", ["certificates.source=vault"], "source"),
                ("holdfast", ["certificates.duration=90d"], "duration"),
                ("holdfast", ["certificates.source=secret"], "certificates.secret.caBundle"),
                ("holdfast", ["certificates.source=secret",
                              "certificates.secret.caBundle=c2VjcmV0"], "caBundle"),
                ("holdfast", ["certificates.source=secret", "certificates.secret.caBundle="
                              "-----BEGIN CERTIFICATE-----"], "certificates.secret.name"),
                ("holdfast", ["agent.config.agents.listen=1"], "agents"),
                ("holdfast", ["agent.config.log.levle=info"], "levle"),
                ("holdfast", ["agent.config.agent.upstream.bootstrap=[]"],
                 "agent.config.agent.upstream.bootstrap: say where the brokers are"),
                ("holdfast", ["sidecar.durability=node"], "set nodeAgents.enabled=true"),
                ("holdfast", ["nodeAgents.directory=var"], "directory"),
                ("holdfast", ["nodeAgents.enabled=true", "nodeAgents.service.enabled=true"],
                 "nodeAgents.config.agent.access.open_listeners"),
                ("holdfast", ["monitoring.rules.runbookUrl=wiki"], "runbookUrl"),
                ("holdfast", ["monitoring.podMonitor.detail.interval=often"], "interval"),
                ("holdfast-broker", ["replicas=2"], "replicas"),
                ("holdfast-broker", ["persistence.size=20GiB"], "size"),
                ("holdfast-broker", ["advertised=kafka"], "advertised"),
                ("holdfast-broker", ['sasl.users=["a"]'], "sasl.usersSecretName"),
                ("holdfast-broker", ['sasl.users=["a"]', "sasl.usersSecretName=s"],
                 "sasl.mechanisms"),
                ("holdfast-broker", ['sasl.mechanisms=["GSSAPI"]'], "mechanisms"),
                ("holdfast-broker", ["tls.clientAuth=required"], "tls.secretName"),
        ):
            with self.subTest(chart=chart, sets=sets):
                self.refused(chart, sets, said)

    def test_class_node_is_for_clusters_with_node_agents(self):
        for mode, said in (("webhook", 'node_directory: "/var/lib/holdfast"'),
                           ("policy", "durability node needs an agent on each node")):
            for enabled in ("false", "true"):
                done = template("holdfast", "-f", minimal("holdfast"), "--set", f"mode={mode}",
                                "--set", f"nodeAgents.enabled={enabled}")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(said in done.stdout, (mode == "webhook") == (enabled == "true"))

    def test_a_secret_may_have_dots_in_its_name(self):
        for chart, sets in (
                ("holdfast", ["nodeAgents.secretName=kafka.login"]),
                ("holdfast", ["imagePullSecrets[0].name=registry.example.org"]),
                ("holdfast-broker", ["tls.secretName=kafka.example.org"]),
                ("holdfast-broker", ["sasl.usersSecretName=kafka.users"])):
            args = [part for one in sets for part in ("--set", one)]
            done = template(chart, "-f", minimal(chart), *args)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_kubernetes_that_is_too_old_is_refused(self):
        self.refused("holdfast", [], "kubeVersion", kubernetes="1.28")
        self.refused("holdfast", ["mode=policy"], "needs Kubernetes 1.36", kubernetes="1.35")

    def test_vendors_versions_are_understood(self):
        for version in ("v1.36.3-gke.1000", "v1.36.3-eks-1a2b3c", "v1.36.3+k3s1"):
            done = template("holdfast", "-f", minimal("holdfast"), kubernetes=version)
            self.assertIn('kubernetes_version: "1.36"', done.stdout, done.stderr)

    def test_the_defaults_fit_the_schema_and_the_schema_the_defaults(self):
        for chart in CHARTS:
            values = yaml.safe_load(read(os.path.join(chart_path(chart), "values.yaml")))
            schema = json.loads(read(os.path.join(chart_path(chart), "values.schema.json")))
            self.assertEqual(set(schema["properties"]) - {"global"}, set(values))
            for path, properties in schema_paths(schema, schema):
                there = values
                for part in path:
                    there = there[part]
                missing = set(properties) - set(there) - {"global"}
                # What has no default is written beside the table.
                self.assertFalse(missing - {"ephemeral-storage", "cpu", "memory", "name", "kind",
                                            "group", "agent", "log", "level"}, f"{chart} {path}")


def strict_paths(values, path=()):
    """Where the schema must know each key: all maps, but for those that are the user's."""
    free = {"nodeSelector", "labels", "annotations", "commonLabels", "podAnnotations", "podLabels",
            "affinity", "config"}
    yield path
    for key, value in values.items():
        if isinstance(value, dict) and key not in free:
            yield from strict_paths(value, (*path, key))


def schema_paths(schema, part, path=()):
    if "$ref" in part:
        part = schema["definitions"][part["$ref"].split("/")[-1]]
    if not part.get("properties"):
        return
    yield path, part["properties"]
    for name, inner in part["properties"].items():
        if name not in ("global", "config", "issuerRef"):
            yield from schema_paths(schema, inner, (*path, name))


class WebhookTest(unittest.TestCase):
    def configurations(self):
        for case in CASES:
            for one in case.objects:
                if one["kind"] == "MutatingWebhookConfiguration":
                    yield case, one

    def test_only_new_pods_of_who_opted_in_are_reviewed(self):
        seen = 0
        for case, one in self.configurations():
            seen += 1
            self.assertEqual([hook["name"] for hook in one["webhooks"]],
                             ["namespace.inject.holdfast.io", "pod.inject.holdfast.io"])
            for hook in one["webhooks"]:
                self.assertEqual(hook["rules"], [{"apiGroups": [""], "apiVersions": ["v1"],
                                                  "operations": ["CREATE"], "resources": ["pods"],
                                                  "scope": "Namespaced"}])
                self.assertEqual((hook["failurePolicy"], hook["reinvocationPolicy"],
                                  hook["sideEffects"], hook["matchPolicy"]),
                                 ("Fail", "IfNeeded", "None", "Equivalent"))
                self.assertLessEqual(hook["timeoutSeconds"], 10)
        self.assertGreater(seen, 3)

    # The selectors by their meaning, over every combination of labels.
    def test_who_is_selected(self):
        for case in CASES:
            if case.chart != "holdfast":
                continue
            selectors = selectors_of(case.objects)
            for namespace in ("shop", "kube-system", "holdfast-system"):
                for enabled in (None, "enabled", "disabled", "yes"):
                    for label in (None, "true", "false"):
                        labels = {"kubernetes.io/metadata.name": namespace}
                        if enabled:
                            labels["holdfast.io/inject"] = enabled
                        pod = {"holdfast.io/inject": label} if label else {}
                        wanted = namespace == "shop" and (
                            label != "false" if enabled == "enabled" else
                            enabled != "disabled" and label == "true")
                        for which, pairs in selectors.items():
                            hits = sum(matches(by_namespace, labels) and matches(by_pod, pod)
                                       for by_namespace, by_pod in pairs)
                            self.assertEqual(hits, int(wanted),
                                             f"{case} {which}: {namespace} {enabled} {label}")

    def test_the_service_leads_to_the_webhooks_port(self):
        for case, one in self.configurations():
            service = one["webhooks"][0]["clientConfig"]["service"]
            [there] = [other for other in case.objects if other["kind"] == "Service" and
                       other["metadata"]["name"] == service["name"]]
            [port] = [port for port in there["spec"]["ports"] if port["port"] == service["port"]]
            [deployment] = [other for other in case.objects if other["kind"] == "Deployment"]
            ports = pod_of(deployment)["spec"]["containers"][0]["ports"]
            self.assertIn({"name": port["targetPort"], "containerPort": 8443, "protocol": "TCP"},
                          ports)


def selectors_of(objects):
    found = {}
    for one in objects:
        if one["kind"] == "MutatingWebhookConfiguration":
            found["webhook"] = [(hook["namespaceSelector"], hook["objectSelector"])
                                for hook in one["webhooks"]]
        if one["kind"].endswith("AdmissionPolicyBinding"):
            match = one["spec"]["matchResources"]
            found.setdefault(one["kind"], []).append((match["namespaceSelector"],
                                                      match["objectSelector"]))
    assert found
    return found


def matches(selector, labels):
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for one in selector.get("matchExpressions", []):
        inside = labels.get(one["key"]) in one["values"]
        if inside != {"In": True, "NotIn": False}[one["operator"]]:
            return False
    return True


class SchedulingTest(unittest.TestCase):
    def test_a_node_that_takes_no_replica_does_not_keep_others_from_having_one(self):
        found = 0
        for name, _, _, pod in pods():
            for spread in pod["spec"].get("topologySpreadConstraints", []):
                if spread["whenUnsatisfiable"] == "DoNotSchedule":
                    self.assertEqual(spread.get("nodeTaintsPolicy"), "Honor", name)
                    found += 1
        self.assertEqual(found, 2)


    def test_priority_classes_of_the_system_have_the_quota_that_gke_wants(self):
        found = 0
        for case in CASES:
            wanted = {pod_of(one)["spec"].get("priorityClassName", "") for one in case.objects
                      if pod_of(one)}
            quotas = [one["spec"] for one in case.objects if one["kind"] == "ResourceQuota"]
            if case.values:
                self.assertTrue(quotas, str(case))
            for quota in quotas:
                found += 1
                [scope] = quota["scopeSelector"]["matchExpressions"]
                self.assertEqual((scope["scopeName"], scope["operator"]), ("PriorityClass", "In"))
                self.assertEqual(set(scope["values"]), wanted - {""}, str(case))
        self.assertEqual(found, 2)


class SecurityTest(unittest.TestCase):
    def test_pods_fit_the_restricted_standard(self):
        for name, _, one, pod in pods():
            spec = pod["spec"]
            node_agent = one["kind"] == "DaemonSet"
            self.assertTrue(spec["securityContext"]["runAsNonRoot"], name)
            self.assertEqual(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault")
            for key in ("hostNetwork", "hostPID", "hostIPC"):
                self.assertNotIn(key, spec, name)
            for container in spec.get("initContainers", []) + spec["containers"]:
                context = container["securityContext"]
                self.assertFalse(context["allowPrivilegeEscalation"], name)
                self.assertTrue(context["readOnlyRootFilesystem"], name)
                self.assertEqual(context["capabilities"]["drop"], ["ALL"], name)
                self.assertNotIn("privileged", context)
                self.assertIn("memory", container["resources"]["limits"], name)
                if container["name"] != "prepare":
                    self.assertNotIn("add", context["capabilities"], name)
                    self.assertNotEqual(context.get("runAsUser"), 0, name)
                else:
                    self.assertTrue(node_agent, name)
            for volume in spec.get("volumes", []):
                self.assertTrue(node_agent or "hostPath" not in volume, name)

    def test_nobody_is_injected_by_his_own_injector(self):
        for name, _, _, pod in pods():
            self.assertEqual(pod["metadata"]["labels"]["holdfast.io/inject"], "false", name)

    def test_only_the_certificates_jobs_have_a_token(self):
        for name, _, _, pod in pods():
            wanted = pod["metadata"]["labels"]["app.kubernetes.io/component"] == "certificates"
            self.assertEqual(pod["spec"]["automountServiceAccountToken"], wanted, name)
            self.assertNotEqual(pod["spec"].get("serviceAccountName", "default"), "default", name)
        for case in CASES:
            for one in case.objects:
                if one["kind"] == "ServiceAccount":
                    self.assertFalse(one["automountServiceAccountToken"])

    def test_rights_are_tied_to_two_objects(self):
        for case in CASES:
            bound = set()
            for one in case.objects:
                if one["kind"] in ("RoleBinding", "ClusterRoleBinding"):
                    bound |= {subject["name"] for subject in one["subjects"]}
                if one["kind"] not in ("Role", "ClusterRole"):
                    continue
                for rule in one["rules"]:
                    self.assertNotIn("*", rule["verbs"] + rule["resources"] + rule["apiGroups"])
                    self.assertNotIn("list", rule["verbs"])
                    if rule["verbs"] == ["create"]:
                        self.assertEqual(rule["resources"], ["secrets"])
                        self.assertIn("hook-succeeded",
                                      one["metadata"]["annotations"]["helm.sh/hook-delete-policy"])
                    else:
                        self.assertEqual(len(rule["resourceNames"]), 1, f"{case} {rule}")
            self.assertFalse([name for name in bound if "certificates" not in name])

    def test_with_another_source_of_certificates_nobody_has_rights(self):
        for case in CASES:
            kinds = {one["kind"] for one in case.objects
                     if not one["metadata"]["name"].endswith("-check")}
            if not kinds & {"Role", "ClusterRole"}:
                self.assertFalse(kinds & {"Job", "CronJob", "RoleBinding", "ClusterRoleBinding"})
        without = {str(case) for case in CASES
                   if not any(one["kind"] == "Role" for one in case.objects)}
        self.assertLessEqual({"holdfast/cert-manager", "holdfast/secret", "holdfast/policy",
                              "holdfast-broker/default"}, without)

    def test_hooks_come_in_the_order_in_which_they_need_each_other(self):
        [case] = [case for case in CASES if str(case) == "holdfast/default"]
        weights = {}
        for one in case.objects:
            annotations = one["metadata"].get("annotations", {})
            if "pre-install" in annotations.get("helm.sh/hook", ""):
                weights[one["kind"]] = int(annotations["helm.sh/hook-weight"])
        self.assertLess(weights["ServiceAccount"], weights["Job"])
        self.assertLess(weights["Role"], weights["RoleBinding"])
        self.assertLess(weights["RoleBinding"], weights["Job"])


class ConfigurationTest(unittest.TestCase):
    """The rendered files are read by the binary that will read them."""

    def validate(self, text, *sets):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            args = [part for one in sets for part in ("--set", one)]
            return subprocess.run([HOLDFAST, "validate", file.name, *args], capture_output=True,
                                  text=True)

    def check(self, text, *sets):
        done = self.validate(text, *sets)
        self.assertEqual(done.returncode, 0, f"{text}\n{done.stderr}")

    def refused(self, text):
        """Why."""
        done = self.validate(text)
        self.assertIn(done.returncode, (1, 2), text)
        return done.stderr

    def files(self, kind):
        for case in CASES:
            for one in case.objects:
                if one["kind"] == "ConfigMap":
                    for name, text in one["data"].items():
                        if name == kind:
                            yield case, one["metadata"]["name"], text

    def test_agents(self):
        found = 0
        for case, name, text in self.files("agent.yaml"):
            with self.subTest(case=str(case), name=name):
                if "/etc/holdfast/secret/" in text:  # Which only the pod has.
                    text = re.sub(r"\n *file: /etc/holdfast/secret/\w+", ' "x"', text)
                self.check(text, "agent.listen=127.0.0.1:9092", "agent.spool.directory=/tmp/spool")
                found += 1
        self.assertGreater(found, 5)

    def test_agents_get_the_values_as_they_are(self):
        for case, name, text in self.files("agent.yaml"):
            if not name.endswith("-injector"):
                continue
            values = yaml.safe_load(read(case.path))["agent"]["config"]
            rendered = yaml.safe_load(text)
            self.assertEqual(values["agent"], rendered["agent"], str(case))

    def test_injectors(self):
        found = 0
        with tempfile.TemporaryDirectory() as folder:
            mount(folder)
            for case, _, text in self.files("holdfast.yaml"):
                if case.chart == "holdfast":
                    with self.subTest(case=str(case)):
                        self.check(text.replace("/etc/holdfast", folder))
                        found += 1
        self.assertGreater(found, 5)

    def test_brokers(self):
        for case, name, text in self.files("holdfast.yaml"):
            if case.chart == "holdfast-broker":
                with tempfile.TemporaryDirectory() as folder, self.subTest(case=str(case)):
                    mount(folder, *re.findall(r"/etc/holdfast/(users/\S+)", text))
                    text = text.replace("/etc/holdfast", folder)
                    self.check(text)
                    if f"{folder}/tls/tls.key" in text:
                        os.remove(os.path.join(folder, "tls/tls.key"))
                        self.assertIn("HF1007", self.refused(text))

    def test_what_a_broker_would_not_start_with_ends_the_upgrade_before_it(self):
        done = template("holdfast-broker", "-f", minimal("holdfast-broker"), "--set",
                        "config.lissten=1")
        objects = [one for one in yaml.safe_load_all(done.stdout) if one]
        hooks = [one for one in objects
                 if one["metadata"].get("annotations", {}).get("helm.sh/hook") == "pre-upgrade"]
        self.assertEqual({one["kind"] for one in hooks}, {"ServiceAccount", "ConfigMap", "Job"})
        self.assertEqual(len({one["metadata"]["name"] for one in hooks}), 1)
        texts = {one["data"]["holdfast.yaml"] for one in objects if one["kind"] == "ConfigMap"}
        self.assertEqual(len(texts), 1)
        [broker] = [pod_of(one)["spec"] for one in objects if one["kind"] == "StatefulSet"]
        [check] = [pod_of(one)["spec"] for one in hooks if one["kind"] == "Job"]
        for key in ("securityContext", "nodeSelector"):
            self.assertEqual(check[key], broker[key])
        [container] = check["containers"]
        self.assertEqual(container["image"], broker["containers"][0]["image"])
        self.assertEqual(container["args"], ["validate", "/etc/holdfast/holdfast.yaml"])
        text = texts.pop()
        self.assertIn('unknown key "broker.lissten"', self.refused(text))
        text = text.replace("lissten: 1", "authorizer: {super_users: [admin]}")
        self.assertIn("broker.authorizer.super_users", self.refused(text))

    def test_a_certificate_is_late_when_half_the_time_to_renew_it_is_over(self):
        for source, before, late in (("hook", "720h", "14 * 86400"), ("hook", "240h", "432000"),
                                     ("cert-manager", "8h", "14400"),
                                     ("secret", "8h", "14 * 86400")):
            done = template("holdfast", "-f", minimal("holdfast"),
                            *[part for one in (f"certificates.source={source}",
                                               f"certificates.renewBefore={before}",
                                               "certificates.secret.name=tls",
                                               "certificates.secret.caBundle="
                                               "-----BEGIN CERTIFICATE-----",
                                               "monitoring.rules.enabled=true")
                              for part in ("--set", one)])
            self.assertEqual(done.returncode, 0, done.stderr)
            [expression] = [rule["expr"] for one in yaml.safe_load_all(done.stdout)
                            if one and one["kind"] == "PrometheusRule"
                            for group in one["spec"]["groups"] for rule in group["rules"]
                            if rule["alert"] == "HoldfastInjectorCertificateExpires"]
            self.assertEqual(expression, "holdfast_inject_certificate_expiry_timestamp_seconds"
                             f" - time() < {late}")

    def test_a_nodes_agent_advertises_its_pod_unless_it_is_told_another_host(self):
        by_option = "--set=agent.advertised_host=$(POD_IP)"
        sets = ["nodeAgents.enabled=true", "nodeAgents.service.enabled=true",
                "nodeAgents.config.agent.access.open_listeners=true"]
        for where in (None, "nodeAgents.config", "agent.config"):
            more = [f"{where}.agent.advertised_host=kafka.shop"] if where else []
            done = template("holdfast", "-f", minimal("holdfast"),
                            *[part for one in sets + more for part in ("--set", one)])
            self.assertEqual(done.returncode, 0, done.stderr)
            [spec] = [pod_of(one)["spec"] for one in yaml.safe_load_all(done.stdout)
                      if one and one["kind"] == "DaemonSet"]
            [container] = spec["containers"]
            self.assertEqual(by_option in container["args"], where is None, where)
            self.assertEqual([one["name"] for one in container.get("env", [])],
                             ["POD_IP"] if where is None else [], where)

    def test_the_brokers_limit_is_within_the_volume(self):
        for size, percent, wanted in (("20Gi", 95, 20401094656), ("2Ti", 80, 1759218604441),
                                      ("100G", 50, 50000000000)):
            done = template("holdfast-broker", "--set", f"persistence.size={size}",
                            "--set", f"persistence.usePercent={percent}")
            self.assertIn(f"bytes_max: {wanted}\n", done.stdout)


class CommandsTest(unittest.TestCase):
    """What containers are told to do are commands of the binary. Wrong usage exits with 2."""

    def test_certificates(self):
        found = 0
        for name, _, _, pod in pods():
            if pod["metadata"]["labels"]["app.kubernetes.io/component"] != "certificates":
                continue
            for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]:
                found += 1
                done = subprocess.run([HOLDFAST, *container["args"], "--server",
                                       "http://127.0.0.1:1", "--token-file", os.devnull],
                                      capture_output=True, text=True)
                self.assertEqual(done.returncode, 1, f"{name}: {done.stderr}")
        self.assertGreater(found, 10)

    def test_prepare_node(self):
        found = 0
        for name, _, one, pod in pods():
            if one["kind"] != "DaemonSet":
                continue
            found += 1
            [container] = pod["spec"]["initContainers"]
            args = ["{}" if part == "/var/lib/holdfast" else part for part in container["args"]]
            with tempfile.TemporaryDirectory() as folder:
                args = [part.format(folder) for part in args]
                args[args.index("--uid") + 1] = str(os.getuid())
                done = subprocess.run([HOLDFAST, *args], capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, f"{name}: {done.stderr}")
                self.assertEqual(sorted(os.listdir(folder)), ["node", "pods"])
        self.assertGreater(found, 0)


class DocumentsTest(unittest.TestCase):
    maxDiff = None

    def test_the_tables_of_values(self):
        path = os.path.join(ROOT, "docs", "kubernetes.md")
        document = read(path)
        for chart in CHARTS:
            table = values_table(chart)
            begin, end = f"<!-- values of {chart} -->\n", f"<!-- end of values of {chart} -->\n"
            self.assertIn(begin, document)
            there = document.split(begin)[1].split(end)[0]
            if PRINT:
                document = document.replace(begin + there + end, begin + table + end)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(document)
                there = table
            self.assertMultiLineEqual(there, table, "HOLDFAST_PRINT=1 writes it")

    def test_every_value_has_a_meaning(self):
        for chart in CHARTS:
            for path, _, meaning in documented_values(chart):
                self.assertTrue(meaning, f"{chart}: {path} has no comment that begins with `# --`")

    def test_versions_are_the_projects(self):
        [version] = re.findall(r"^project\(holdfast VERSION (\S+)",
                               read(os.path.join(ROOT, "CMakeLists.txt")), re.M)
        for chart in CHARTS:
            about = yaml.safe_load(read(os.path.join(chart_path(chart), "Chart.yaml")))
            self.assertEqual((about["version"], about["appVersion"]), (version, version))


def documented_values(chart):
    """(path, default, meaning) of what has a comment `# --` above it, and of leaves without one."""
    path, comment = [], None
    documented = None  # The indentation of a value whose inner parts are its own.
    for line in read(os.path.join(chart_path(chart), "values.yaml")).splitlines():
        indent = len(line) - len(line.lstrip())
        text = line.strip()
        if text.startswith("# -- "):
            comment = [text[5:]]
            continue
        if text.startswith("#"):
            if comment is not None:
                comment.append(text[2:])
            continue
        found = re.match(r"([\w.-]+):(?: (.*))?$", text)
        if not found or (documented is not None and indent > documented):
            comment = None if not text else comment
            continue
        documented = None
        path = path[:indent // 2] + [found.group(1)]
        if comment is not None:
            documented = indent
            yield ".".join(path), default_of(chart, path), " ".join(comment)
        elif found.group(2):
            yield ".".join(path), default_of(chart, path), ""
        comment = None


def default_of(chart, path):
    value = yaml.safe_load(read(os.path.join(chart_path(chart), "values.yaml")))
    for part in path:
        value = value[part]
    return json.dumps(value) if not isinstance(value, str) else value


def values_table(chart):
    lines = ["| value | default | meaning |", "| --- | --- | --- |"]
    for path, default, meaning in documented_values(chart):
        shown = f"`{default}`" if default not in ("", "{}", "[]") else "–"
        lines.append(f"| `{path}` | {shown} | {meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TOOLS, HOLDFAST = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    HELM = os.environ.get("HOLDFAST_HELM") or os.path.join(TOOLS, "bin", "helm")
    # Or `helm lint` would take the version from a cluster that happens to be there.
    os.environ["KUBECONFIG"] = os.devnull
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
