#!/usr/bin/python3
"""The tests with which librdkafka's authors judge a broker, run against ours.

librdkafka.txt lists those that need a broker, and what becomes of each. The fast ones are run; with
HOLDFAST_LONG=1 all. What the list calls good must pass. A test that fails is run once more by
itself: some hold times of milliseconds against a machine that does other things meanwhile.

HOLDFAST_SUITE="0011 0045/noautocreate" runs just these. The source comes from the npm package that
bundles it with its tests; it is built in build/interop.
"""

import concurrent.futures
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import apache_kafka
import harness

VERSION = "2.15.1"
PACKAGE = ("@confluentinc/kafka-javascript", "1.10.1")
SUITE = os.path.join(apache_kafka.ROOT, "build", "interop", "librdkafka-" + VERSION)
LIST = os.path.join(os.path.dirname(os.path.realpath(__file__)), "librdkafka.txt")
AT_A_TIME = 4
# They shell out to these, as $KAFKA_PATH/bin/kafka-NAME.sh.
TOOLS = {"topics": "org.apache.kafka.tools.TopicCommand",
         "acls": "org.apache.kafka.tools.AclCommand", "configs": "kafka.admin.ConfigCommand"}


def run(command, directory, log):
    with open(log, "ab") as out:
        done = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=out,
                              stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}, see {log}")


def build():
    """Once: the test runner, and the tools that it calls."""
    runner = os.path.join(SUITE, "tests", "test-runner")
    if os.path.exists(runner):
        return
    print("fetching and building librdkafka", file=sys.stderr, flush=True)
    shutil.rmtree(SUITE, ignore_errors=True)
    part = SUITE + ".part"
    shutil.rmtree(part, ignore_errors=True)
    os.makedirs(part)
    log = os.path.join(part, "build.log")
    name, version = PACKAGE
    run(["npm", "pack", "--silent", f"{name}@{version}"], part, log)
    archive = f"{name.replace('@', '').replace('/', '-')}-{version}.tgz"
    run(["tar", "xzf", archive, "--strip-components=3", "package/deps/librdkafka"], part, log)
    for path, _, files in os.walk(part):  # The package keeps no modes.
        for file in files:
            if file.startswith("configure") or file.endswith((".sh", "lds-gen.py")):
                os.chmod(os.path.join(path, file), 0o755)
    # Three tests ask for three replicas.
    source = os.path.join(part, "tests", "test.c")
    with open(source, encoding="utf-8") as file:
        text = file.read()
    text, count = re.subn(
        r"(rd_kafka_NewTopic_new\(topicname, partition_cnt,\s*)replication_factor", r"\g<1>1", text)
    if count == 0:
        raise AssertionError(f"{source} has changed: where are its topics made?")
    with open(source, "w", encoding="utf-8") as file:
        file.write(text)
    compiler = "ccache gcc" if shutil.which("ccache") else "gcc"
    jobs = f"-j{os.cpu_count()}"
    run(["./configure", f"--cc={compiler}", "--disable-optimization", "--disable-lz4-ext",
         "--disable-curl", "--disable-gssapi"], part, log)
    run(["make", jobs, "libs"], part, log)
    run(["make", jobs, "-C", "tests", "test-runner"], part, log)
    os.makedirs(os.path.join(part, "kafka", "bin"))
    for tool, name in TOOLS.items():
        path = os.path.join(part, "kafka", "bin", f"kafka-{tool}.sh")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/bash\nexec java -Xmx128m -XX:TieredStopAtLevel=1 "
                       f"-cp '{apache_kafka.LIBRARIES}/*' {name} \"$@\"\n")
        os.chmod(path, 0o755)
    # 0098 runs a Java producer in its own directory, by ./java/run-class.sh after `make java`.
    if shutil.which("javac"):
        java = os.path.join(part, "kafka", "java")
        os.makedirs(java)
        classes = apache_kafka.LIBRARIES + "/*"
        run(["javac", "-d", java, "-cp", classes, "tests/java/TransactionProducerCli.java"], part,
            log)
        with open(os.path.join(java, "run-class.sh"), "w", encoding="utf-8") as file:
            file.write("#!/bin/bash\nexec java -Xmx128m -XX:TieredStopAtLevel=1 "
                       f"-cp 'java:{classes}' \"$@\"\n")
        os.chmod(os.path.join(java, "run-class.sh"), 0o755)
    os.rename(part, SUITE)


def read_list():
    """By number: whether it is fast, and whether it should pass."""
    tests = {}
    with open(LIST, encoding="utf-8") as file:
        for line in file:
            words = line.split("#")[0].split()
            if words:
                number, speed, verdict = words[:3]
                tests[number] = (speed == "fast", verdict == "pass")
    return tests


class Suite:
    """Runs tests by number against a broker."""

    def __init__(self, directory, address, without_auto_creation):
        self.directory = directory
        self.addresses = {False: address, True: without_auto_creation}
        for special, bootstrap in self.addresses.items():
            with open(self.configuration(special), "w", encoding="utf-8") as file:
                file.write(f"metadata.broker.list={bootstrap}\ntest.timeout.multiplier=3\n"
                           "test.topic.random=true\n")
        os.symlink(os.path.join(SUITE, "src"), os.path.join(directory, "src"))  # 0053 reads there.

    def configuration(self, special):
        return os.path.join(self.directory, f"test-{int(special)}.conf")

    def run(self, item):
        """What went wrong; None if it passed."""
        number, _, scenario = item.partition("/")
        directory = tempfile.mkdtemp(dir=self.directory)
        os.symlink(os.path.join(SUITE, "kafka", "java"), os.path.join(directory, "java"))
        with open(os.path.join(directory, "Makefile"), "w", encoding="utf-8") as file:
            file.write("java:\n\t@true\n")
        report = os.path.join(directory, "report.json")
        environment = dict(
            os.environ, TESTS=number, TEST_REPORT=report, TEST_KAFKA_VERSION="4.2.0",
            BROKERS=self.addresses[bool(scenario)],
            RDKAFKA_TEST_CONF=self.configuration(bool(scenario)),
            KAFKA_PATH=os.path.join(SUITE, "kafka"),
            LD_LIBRARY_PATH=f"{SUITE}/src:{SUITE}/src-cpp")
        environment.pop("CI", None)  # It leaves tests out by it.
        command = [os.path.join(SUITE, "tests", "test-runner"), "-L", "-p1",
                   *(["-s", scenario] if scenario else []), *(["-Q"] if self.quick(number) else [])]
        log = os.path.join(directory, "log")
        with open(log, "wb") as out:
            try:
                code = subprocess.run(command, cwd=directory, env=environment, stdout=out,
                                      stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                                      timeout=600).returncode
            except subprocess.TimeoutExpired:
                return "ran for longer than ten minutes"
        with open(log, encoding="utf-8", errors="replace") as file:
            return judge(code, report, file.read())

    @staticmethod
    def quick(number):
        """Whether quick mode leaves nothing out, or (0113) far too long a part."""
        text = ""
        for path in glob.glob(os.path.join(SUITE, "tests", number + "-*.c*")):
            with open(path, encoding="utf-8") as file:
                text += file.read()
        return number == "0113" or not ("SUB_TEST(" in text or "quick mode" in text)


def judge(code, report, log):
    log = re.sub(r"\x1b\[\d*m", "", log)
    failure = re.search(r'### Test ".*?" failed at (.*?) at .*\n(.*)', log)
    if code != 0:
        return f"{failure[1]}: {failure[2]}"[:200] if failure else f"exit {code}"
    with open(report, encoding="utf-8") as file:
        tests = [test for name, test in json.load(file)["tests"].items() if name != "<MAIN>"]
    if any(test["state"] == "FAILED" for test in tests):
        return f"{failure[1]}: {failure[2]}"[:200] if failure else "failed"
    # Quick mode, and versions, leave whole tests out, which then 'pass' in no time.
    if not any(test["state"] == "PASSED" and test["duration"] > 0.002 for test in tests):
        return "ran nothing"
    return None


class LibrdkafkaTest(harness.Case):
    def start(self, name, *settings):
        directory = self.path(name)
        os.mkdir(directory)
        broker = harness.Process("broker", directory, "--data", os.path.join(directory, "data"),
                                 *settings)
        self.processes.append(broker)
        return broker.start().address

    def test_what_is_known_to_pass_passes(self):
        build()
        known = read_list()
        wanted = os.environ.get("HOLDFAST_SUITE", "").split() or [
            item for item, (fast, passes) in known.items() if passes and (fast or harness.LONG)]
        if "0098" in wanted and not shutil.which("javac"):
            print("0098 is left out: it needs javac", flush=True)
            wanted.remove("0098")
        settings = ("--set", "broker.num_partitions=4",
                    "--set", "broker.groups.session_timeout_min_ms=1s",
                    "--set", "broker.authorizer.enabled=true",
                    "--set", "broker.authorizer.super_users=['User:admin']",
                    "--set", "broker.authorizer.allow_everyone_if_no_acl_found=true")
        suite = Suite(self.directory, self.start("auto", *settings),
                      self.start("declared", *settings,
                                 "--set", "broker.auto_create_topics=false"))
        with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
            first = dict(zip(wanted, pool.map(suite.run, wanted)))
        failed = {}
        for item, trouble in first.items():
            again = suite.run(item) if trouble else None
            if trouble:
                print(f"{item}: {trouble}; by itself: {again or 'passed'}", flush=True)
            if again:
                failed[item] = again
        print(f"librdkafka {VERSION}: {len(wanted) - len(failed)} of {len(wanted)} passed; "
              f"{sum(passes for _, passes in known.values())} of {len(known)} are known to",
              flush=True)
        self.assertEqual(failed, {})


if __name__ == "__main__":
    apache_kafka.main()
