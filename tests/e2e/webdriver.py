"""A real Chromium, headless, spoken to in the WebDriver protocol."""

import base64
import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--hide-scrollbars"]


def available():
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


class Browser:
    """One window. `directory` takes its profile and logs."""

    def __init__(self, directory, width=1200, height=900, dark=False):
        self.log_path = os.path.join(directory, "chromedriver.log")
        with open(self.log_path, "wb") as log:
            self.driver = subprocess.Popen(
                [shutil.which("chromedriver"), "--port=0"], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=dict(os.environ, HOME=directory))
        self.session = None
        try:
            self.address = self._wait_for_port()
            flags = [*FLAGS, f"--user-data-dir={os.path.join(directory, 'chromium')}",
                     f"--window-size={width},{height}"]
            if dark:
                flags.append("--force-dark-mode")
            answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": {
                "browserName": "chrome",
                "goog:loggingPrefs": {"browser": "ALL"},
                "goog:chromeOptions": {"binary": shutil.which("chromium"), "args": flags}}}})
            self.session = answer["sessionId"]
        except BaseException:
            self.close()
            raise

    def _wait_for_port(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                found = re.search(r"started successfully on port (\d+)", log.read())
            if found:
                return f"http://127.0.0.1:{found.group(1)}"
            time.sleep(0.05)
        raise AssertionError("chromedriver did not start")

    def _call(self, method, path, body=None):
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.address + path, method=method, data=data,
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()}") from error

    def _of_session(self, method, path, body=None):
        return self._call(method, f"/session/{self.session}{path}", body)

    def open(self, url):
        self._of_session("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """What the script returns."""
        return self._of_session("POST", "/execute/sync",
                                {"script": script, "args": list(arguments)})

    def devtools(self, command, **parameters):
        return self._of_session("POST", "/goog/cdp/execute",
                                {"cmd": command, "params": parameters})

    def text(self, selector="body"):
        """What a person sees of an element."""
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def complaints(self):
        """What the browser said against the page, such as a violation of its policy."""
        return [entry["message"] for entry in
                self._of_session("POST", "/se/log", {"type": "browser"})
                if entry["level"] in ("SEVERE", "WARNING")]

    def prefer(self, scheme):
        """"light" or "dark"."""
        self.devtools("Emulation.setEmulatedMedia",
                      features=[{"name": "prefers-color-scheme", "value": scheme}])

    def resize(self, width, height, mobile=False):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height,
                      deviceScaleFactor=1, mobile=mobile)

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self._of_session("GET", "/screenshot")))

    def close(self):
        if self.session:
            try:
                self._of_session("DELETE", "")
            except (AssertionError, OSError):
                pass
        self.driver.terminate()
        self.driver.wait(20)
