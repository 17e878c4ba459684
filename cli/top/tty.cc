#include "cli/top/tty.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace holdfast::top {
namespace {

// The other screen; no cursor; what is too long is cut and not put onto the next line.
constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr std::string_view kLeave = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
constexpr std::string_view kClear = "\x1b[0m\x1b[2J";

// Errors are those of a terminal that is gone, which Read tells as well.
void Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (written > 0) {
      bytes.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd ready{.fd = STDOUT_FILENO, .events = POLLOUT};
      poll(&ready, 1, -1);
    } else if (errno != EINTR) {
      return;
    }
  }
}

}  // namespace

bool Tty::Present() {
  const char* const term = std::getenv("TERM");
  return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 && term != nullptr &&
         term != std::string_view("dumb") && *term != '\0';
}

base::Result<std::unique_ptr<Tty>> Tty::Open(Colors colors) {
  termios before{};
  if (tcgetattr(STDIN_FILENO, &before) != 0)
    return base::Unexpected(base::ErrnoError("cannot use the terminal", errno));
  std::unique_ptr<Tty> tty(new Tty(colors, before));
  tty->Enter();
  return tty;
}

Tty::~Tty() { Leave(); }

void Tty::Enter() {
  termios raw = before_;
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | IEXTEN);
  raw.c_iflag &= ~static_cast<tcflag_t>(ICRNL | INLCR | IXON);
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  Write(kEnter);
  Forget();
}

void Tty::Leave() {
  Write(kLeave);
  tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
}

int Tty::fd() const { return STDIN_FILENO; }

std::optional<std::string> Tty::Read() {
  std::array<char, 256> bytes;
  const ssize_t count = read(STDIN_FILENO, bytes.data(), bytes.size());
  if (count > 0) return std::string(bytes.data(), static_cast<size_t>(count));
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return std::string();
  return std::nullopt;
}

Size Tty::size() const {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0)
    return {};
  return {.columns = size.ws_col, .rows = size.ws_row};
}

void Tty::Show(const std::vector<Line>& lines) {
  std::string out;
  if (!shown_) out = kClear;
  std::vector<std::string> now;
  for (const Line& line : lines) {
    now.push_back(line.Ansi(colors_));
    const size_t at = now.size() - 1;
    if (shown_ && at < shown_->size() && (*shown_)[at] == now.back()) continue;
    // Cleared first: behind a line as wide as the terminal, its last column would be.
    out += fmt::format("\x1b[{};1H\x1b[2K", at + 1);
    out += now.back();
  }
  if (shown_ && shown_->size() > now.size()) out += fmt::format("\x1b[{};1H\x1b[J", now.size() + 1);
  shown_ = std::move(now);
  Write(out);
}

}  // namespace holdfast::top
