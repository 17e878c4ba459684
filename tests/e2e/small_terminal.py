"""A program in a terminal of a given size, and what its screen shows.

The screen knows the sequences that `holdfast top` uses and no others: an unknown one, or a control
character, fails. So nothing that a client has named can have reached the terminal as it was.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

SEQUENCE = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")


class Screen:
    def __init__(self, columns, rows):
        self.resize(columns, rows)
        self.other = self.cursor_hidden = self.wraps_not = False
        self.styles = set()

    def resize(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.cells = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.settled = False  # What comes until all is drawn anew is of the size before.

    def feed(self, text):
        """What is not complete, for the next time."""
        while text:
            if text[0] == "\x1b":
                found = SEQUENCE.match(text)
                if not found:
                    if len(text) < 16:
                        return text
                    raise AssertionError(f"not a sequence of the screen: {text[:40]!r}")
                self.obey(*found.groups())
                text = text[found.end():]
                continue
            self.put(text[0])
            text = text[1:]
        return ""

    def obey(self, private, numbers, command):
        if private and command in "hl":
            on = command == "h"
            if numbers == "1049":
                self.other = on
            elif numbers == "25":
                self.cursor_hidden = not on
            elif numbers == "7":
                self.wraps_not = not on
            else:
                raise AssertionError(f"mode {numbers}")
        elif command == "H":
            row, column = map(int, numbers.split(";"))
            assert not self.settled or (1 <= row <= self.rows and column == 1), (numbers, self.rows)
            self.row, self.column = min(row, self.rows) - 1, 0
        elif command == "K" and numbers == "2":
            self.cells[self.row] = [" "] * self.columns
        elif command == "J" and numbers == "2":
            self.cells = [[" "] * self.columns for _ in range(self.rows)]
            self.settled = True
        elif command == "J" and numbers == "":
            for row in range(self.row, self.rows):
                self.cells[row] = [" "] * self.columns
        elif command == "m":
            self.styles.update(numbers.split(";"))
        else:
            raise AssertionError(f"sequence {numbers}{command}")

    def put(self, character):
        if not self.other:
            return  # The shell's screen.
        assert character.isprintable(), f"a control character on the screen: {character!r}"
        if not self.settled and self.column >= self.columns:
            return
        assert self.column < self.columns, f"a line is too long: {''.join(self.cells[self.row])}"
        self.cells[self.row][self.column] = character
        self.column += 1

    def text(self):
        return "\n".join("".join(row).rstrip() for row in self.cells)


class Program:
    def __init__(self, arguments, columns=100, rows=30, environment=None):
        self.master, slave = pty.openpty()
        self.screen = Screen(columns, rows)
        self.rest = b""
        self.unread = ""
        self.size(slave, columns, rows)
        self.slave = slave  # Kept, to see how it is left.
        self.before = termios.tcgetattr(slave)
        self.child = subprocess.Popen(
            arguments, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8",
                 **(environment or {})})

    @staticmethod
    def size(fd, columns, rows):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns, rows):
        self.read()
        self.screen.resize(columns, rows)
        self.size(self.slave, columns, rows)

    def read(self):
        """What has come so far; false at the end."""
        while select.select([self.master], [], [], 0)[0]:
            try:
                self.rest += os.read(self.master, 65536)
            except OSError:
                return False
            text = self.rest.decode(errors="ignore")
            self.rest = self.rest[len(text.encode()):]
            self.unread = self.screen.feed(self.unread + text)
        return True

    def press(self, keys):
        os.write(self.master, keys.encode())

    def see(self, pattern, timeout=20):
        """Until the screen shows it."""
        deadline = time.monotonic() + timeout
        while True:
            self.read()
            found = re.search(pattern, self.screen.text(), re.S)
            if found:
                return found
            if time.monotonic() > deadline or self.child.poll() is not None:
                raise AssertionError(f"{pattern} is not on the screen, exit code "
                                     f"{self.child.poll()}:\n{self.screen.text()}")
            time.sleep(0.02)

    def end(self, timeout=10):
        """Its exit code, once it has ended."""
        deadline = time.monotonic() + timeout
        while self.child.poll() is None:
            self.read()
            if time.monotonic() > deadline:
                raise AssertionError("it does not end")
            time.sleep(0.02)
        self.read()
        return self.child.returncode

    def kill(self, number=signal.SIGTERM):
        self.child.send_signal(number)

    def stopped(self):
        """By job control, until SIGCONT; one that comes before that does nothing."""
        with open(f"/proc/{self.child.pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "T"

    def left_as_it_was(self):
        return (not self.screen.other and not self.screen.cursor_hidden
                and not self.screen.wraps_not and termios.tcgetattr(self.slave) == self.before)

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        os.close(self.master)
        os.close(self.slave)
