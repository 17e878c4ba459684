#!/usr/bin/env python3
"""Alerts, dashboards and metrics: checked by Prometheus's own promtool, and against the list of the
metrics that exist (tests/golden/metrics.txt).

usage: TOOLS/venv/bin/python tests/helm/monitoring_test.py TOOLS HOLDFAST [unittest's arguments]

TOOLS is what tests/helm/tools made, HOLDFAST the binary. rules/*.yaml are promtool's unit tests.
"""

import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.request

import yaml

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RULES = sorted(glob.glob(os.path.join(ROOT, "helm", "*", "rules", "*.yaml")))
DASHBOARDS = sorted(glob.glob(os.path.join(ROOT, "helm", "*", "dashboards", "*.json")))
GOLDEN = os.path.join(ROOT, "tests", "golden", "metrics.txt")
# Made by Prometheus itself.
FOREIGN_METRICS = {"up", "ALERTS"}
OPERATORS = {"and", "or", "unless"}
# Of the scrape, whatever the metric.
TARGET_LABELS = {"job", "namespace", "pod", "instance", "endpoint"}
SEVERITIES = {"critical", "warning"}
RUNBOOKS = "https://holdfast.io/docs/operations.md"

TOOLS = HOLDFAST = None


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def promtool(*args, stdin=None):
    return subprocess.run([os.path.join(TOOLS, "bin", "promtool"), *args], input=stdin, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def rules():
    for path in RULES:
        for group in yaml.safe_load(read(path))["groups"]:
            for rule in group["rules"]:
                yield os.path.relpath(path, ROOT), rule


def panels():
    for path in DASHBOARDS:
        for panel in json.loads(read(path))["panels"]:
            yield os.path.relpath(path, ROOT), panel


def queries():
    """Where it stands, and an expression without Grafana's variables."""
    for path, rule in rules():
        yield f"{path} {rule['alert']}", rule["expr"]
    for path, panel in panels():
        for target in panel.get("targets", []):
            text = target["expr"]
            for name, value in (("$__rate_interval", "5m"), ("$__range", "3h"),
                                ("$namespace", ".*"), ("$pod", ".*")):
                text = text.replace(name, value)
            yield f"{path} \"{panel['title']}\"", text
    for path in DASHBOARDS:
        for variable in json.loads(read(path))["templating"]["list"]:
            if variable["type"] == "query":
                found = re.match(r"label_values\((.*), \w+\)$", variable["definition"])
                yield f"{path} {variable['name']}", found.group(1).replace("$namespace", ".*")


def known_metrics():
    """Names to labels, with those that a histogram has besides."""
    known = {}
    for name, label, kind in re.findall(r"^(\w+)(?:\{([\w,]+)\})? (\w+):", read(GOLDEN), re.M):
        labels = set(label.split(",")) - {""}
        if kind == "histogram":
            known[name + "_bucket"] = labels | {"le"}
            known[name + "_sum"] = known[name + "_count"] = labels
        else:
            known[name] = labels
    return known


class RulesTest(unittest.TestCase):
    def test_promtool_reads_them_and_finds_nothing_to_lint(self):
        self.assertEqual(len(RULES), 3)
        for path in RULES:
            done = promtool("check", "rules", "--lint=all", "--lint-fatal", path)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_alerts_fire_and_are_silent_as_they_should(self):
        for path in sorted(glob.glob(os.path.join(HERE, "rules", "*.yaml"))):
            done = promtool("test", "rules", path)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_each_alert_is_tested_silent_and_firing(self):
        tested = set()
        for path in glob.glob(os.path.join(HERE, "rules", "*.yaml")):
            for test in yaml.safe_load(read(path))["tests"]:
                for query in test.get("promql_expr_test", []):
                    name = re.search(r'alertname="(\w+)"', query["expr"]).group(1)
                    tested.add((name, bool(query["exp_samples"])))
        alerts = {rule["alert"] for _, rule in rules()}
        self.assertEqual(tested, {(name, fires) for name in alerts for fires in (False, True)})

    def test_each_alert_says_what_is_wrong_and_where_to_read_on(self):
        document = read(os.path.join(ROOT, "docs", "operations.md"))
        headings = re.findall(r"^### (\w+)$", document, re.M)
        for path, rule in rules():
            name = rule["alert"]
            self.assertIn(rule["labels"]["severity"], SEVERITIES, name)
            self.assertEqual(set(rule["annotations"]), {"summary", "description", "runbook_url"},
                             name)
            self.assertEqual(rule["annotations"]["runbook_url"], f"{RUNBOOKS}#{name.lower()}", path)
            self.assertIn(name, headings, "has no section in docs/operations.md")
        alerts = [rule["alert"] for _, rule in rules()]
        self.assertEqual(len(alerts), len(set(alerts)))
        runbooks = [name for name in headings if name.startswith("Holdfast")]
        self.assertEqual(sorted(runbooks), sorted(alerts))


class QueriesTest(unittest.TestCase):
    def test_promtool_parses_every_query(self):
        rules_of = [{"record": f"query:{number}", "expr": text}
                    for number, (_, text) in enumerate(queries())]
        self.assertGreater(len(rules_of), 80)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            yaml.safe_dump({"groups": [{"name": "queries", "rules": rules_of}]}, file)
            file.flush()
            done = promtool("check", "rules", file.name)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_a_query_that_is_wrong_is_found(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            file.write("groups: [{name: a, rules: [{record: b, expr: 'sum(rate(c[5m])'}]}]")
            file.flush()
            self.assertNotEqual(promtool("check", "rules", file.name).returncode, 0)

    def test_every_metric_exists_and_has_the_labels_asked_for(self):
        known = known_metrics()
        for where, text in queries():
            bare = re.sub(r'"[^"]*"', '""', text)
            for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", bare):
                labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers))
                self.assertLessEqual(labels, known.get(name, set()) | TARGET_LABELS,
                                     f"{where}: {name}")
            # What is left but for labels, durations and numbers is functions, words and metrics.
            bare = re.sub(r"\{[^}]*\}|\[\w+\]|\b(by|without|on) \([^)]*\)|\boffset \w+", "", bare)
            for name in re.findall(r"\b[a-zA-Z_]\w*\b(?!\s*\()", bare):
                if name not in OPERATORS | FOREIGN_METRICS:
                    self.assertIn(name, known, where)

    def test_labels_that_are_summed_by_exist(self):
        known = set().union(*known_metrics().values()) | TARGET_LABELS
        for where, text in queries():
            for names in re.findall(r"\b(?:by|without|on) \(([^)]*)\)", text):
                for name in re.split(r",\s*", names):
                    self.assertIn(name, known, where)


class DashboardsTest(unittest.TestCase):
    def test_they_are_whole(self):
        self.assertEqual(len(DASHBOARDS), 3)
        uids = set()
        for path in DASHBOARDS:
            board = json.loads(read(path))
            uids.add(board["uid"])
            self.assertTrue(board["title"].startswith("Holdfast"))
            ids = [panel["id"] for panel in board["panels"]]
            self.assertEqual(len(ids), len(set(ids)))
            taken = set()
            for panel in board["panels"]:
                place = panel["gridPos"]
                self.assertLessEqual(place["x"] + place["w"], 24)
                cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                         for y in range(place["y"], place["y"] + place["h"])}
                self.assertFalse(cells & taken, f"{path}: {panel['title']} covers another")
                taken |= cells
                if panel["type"] != "row":
                    self.assertEqual(panel["datasource"]["uid"], "${datasource}")
                    self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
        self.assertEqual(len(uids), 3)

    def test_the_charts_have_them_as_they_are(self):
        for chart, sets, names in (
                ("holdfast", ["monitoring.dashboards.enabled=true",
                              "agent.config.agent.upstream.bootstrap[0]=kafka:9092"],
                 ("agent", "injector")),
                ("holdfast-broker", ["monitoring.dashboard.enabled=true"], ("broker",))):
            args = [part for one in sets for part in ("--set", one)]
            done = subprocess.run([os.path.join(TOOLS, "bin", "helm"), "template", "a",
                                   os.path.join(ROOT, "helm", chart), "--kube-version", "1.36",
                                   *args], capture_output=True, text=True, check=True)
            data = {}
            for one in yaml.safe_load_all(done.stdout):
                if one and one["kind"] == "ConfigMap":
                    data.update(one["data"])
            for name in names:
                file = os.path.join(ROOT, "helm", chart, "dashboards", name + ".json")
                self.assertEqual(json.loads(data[f"holdfast-{name}.json"]), json.loads(read(file)))


class ScrapeTest(unittest.TestCase):
    """What agent and broker serve is what Prometheus reads, and what rules ask for."""

    def test_a_live_scrape(self):
        with tempfile.TemporaryDirectory() as folder:
            agent = self.start("agent", "--spool", os.path.join(folder, "spool"), "--listen",
                               "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", "127.0.0.1:1")
            broker = self.start("broker", "--data", os.path.join(folder, "data"), "--listen",
                                "127.0.0.1:0", "--admin", "127.0.0.1:0")
            served = set()
            for page in (self.scrape(agent), self.scrape(agent, "/metrics/detail"),
                         self.scrape(broker)):
                done = promtool("check", "metrics", stdin=page)
                self.assertEqual(done.returncode, 0, done.stdout)
                served |= set(re.findall(r"^# TYPE (\w+) ", page, re.M))
            self.assertIn("holdfast_spool_room_bytes", served)
            listed = {name: bool(label)
                      for name, label in re.findall(r"^(\w+)(\{[\w,]+\})? ", read(GOLDEN), re.M)}
            self.assertLessEqual(served, set(listed))
            # A series with a label is there once it has a value; some parts are switched off.
            for name, labelled in listed.items():
                if not labelled and not re.match(r"holdfast_(outbox|half|inject|orphans)_", name):
                    self.assertIn(name, served)

    def start(self, *args):
        process = subprocess.Popen([HOLDFAST, *args], stdout=subprocess.PIPE, text=True,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.terminate)
        for line in process.stdout:
            found = re.search(r"admin on (\S+)", line)
            if found:
                return found.group(1)
        return self.fail(f"{args[0]} did not start")

    @staticmethod
    def scrape(address, path="/metrics"):
        with urllib.request.urlopen(f"http://{address}{path}", timeout=20) as answer:
            return answer.read().decode()


if __name__ == "__main__":
    TOOLS, HOLDFAST = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
