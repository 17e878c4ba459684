// The terminal that a person sits at, as long as a program has all of its screen.
//
// The screen is an own one (the shell's comes back when this ends), keys are not echoed, Ctrl-C and
// Ctrl-Z are signals as ever. Only lines that have changed are written.
//
// Ownership: one per process. The destructor gives the terminal back as it was.
// Threads: one.
#pragma once

#include <termios.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/top/line.h"
#include "cli/top/view.h"

namespace holdfast::top {

class Tty {
 public:
  // Whether standard input and output are a terminal that can do this.
  [[nodiscard]] static bool Present();
  static base::Result<std::unique_ptr<Tty>> Open(Colors colors);
  ~Tty();
  Tty(const Tty&) = delete;
  Tty& operator=(const Tty&) = delete;

  [[nodiscard]] int fd() const;  // To wait for keys.
  // What was typed; none once the terminal is gone.
  std::optional<std::string> Read();

  [[nodiscard]] Size size() const;
  void Show(const std::vector<Line>& lines);
  // Somebody else may have written to it, or its size has changed: the next Show draws everything.
  void Forget() { shown_.reset(); }

  // Gives it back for a while.
  void Leave();
  void Enter();

 private:
  Tty(Colors colors, const termios& before) : colors_(colors), before_(before) {}

  const Colors colors_;
  const termios before_;
  std::optional<std::vector<std::string>> shown_;
};

}  // namespace holdfast::top
